"""Local-only training: every client trains on its own data and nothing of the model ever travels.

The score is the mean of the clients' own models on the common test set; the few bytes are orders and reports.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="local-only", start="local", uplink="none", downlink="none"),
    summary="Each client alone: what one gets without any exchange.",
    settings={"training": {"keep_optimizer": True}},
)
