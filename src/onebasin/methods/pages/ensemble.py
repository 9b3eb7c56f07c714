"""The ensemble: every client's model is kept, and all are asked together: what merging them should come near to.

The mean of the clients' predicted probabilities, weighted by their examples. It is as many times as large as one model
as there are clients, and nothing travels: a reference, not a method.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="ensemble", start="local", uplink="none", downlink="none", score="together"),
    summary="All clients' models, asked together: the ceiling for merging them.",
)
