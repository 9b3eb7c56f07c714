"""Running on Flower: the apps that a SuperLink and its nodes start, and the submission of runs to them.

`submit` gives a run to a SuperLink, which starts `server_app`; nodes start `client_app` for each message. Files import
from left to right: records, settings, states <- node, grid_link <- client_app, server_app. `app/` is the Flower app
that `submit` sends: it only refers to the installed package. What the engine does in a round is in
`federation/engines/flower.py`.
"""
