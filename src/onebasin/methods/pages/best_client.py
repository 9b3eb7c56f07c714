"""The best single client, chosen on the test set: what one could keep if one knew which. A reference, not a method."""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="best-client", start="local", uplink="none", downlink="none", score="best"),
    summary="The best of the clients that train alone, chosen on the test set.",
)
