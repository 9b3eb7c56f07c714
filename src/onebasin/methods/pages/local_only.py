"""Local-only training: each client trains its own model on its own data, and no model is sent.

The score is the mean accuracy of the clients' models on the common test set. Only requests and reports are sent.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="local-only", start="local", uplink="none", downlink="none"),
    summary="Each client trains alone: the reference without any exchange.",
    settings={"training": {"keep_optimizer": True}},
)
