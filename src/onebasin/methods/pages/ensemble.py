"""The ensemble of the clients' own models: a reference for merging them, not a method.

The prediction is the mean of the clients' predicted probabilities, weighted by their numbers of examples. The ensemble
of n clients is n times as large as one model, and no model is sent.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="ensemble", start="local", uplink="none", downlink="none", score="together"),
    summary="The ensemble of all local-only clients' models: a reference for merging them.",
)
