"""The best client's own model, chosen on the test set: a reference that uses test labels, not a method."""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="best-client", start="local", uplink="none", downlink="none", score="best"),
    summary="The best local-only client, chosen by its test score: a reference that no server could find.",
)
