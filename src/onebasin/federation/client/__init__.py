"""The client: from a request to a reply, in three steps on explicit state.

`client.Client` has one method per step, and each has a file:
starting_point: `begin` decodes the request, and determines the model from which training starts
local_phase: `train` trains and scores; only this step needs the client's data
reply: `finish` encodes the reply, and returns the client's next state

`work` has what passes between the steps. Training itself is in `learning/local_training.py`; what a method adds to a
step is a hook (`federation/hooks`).
"""
