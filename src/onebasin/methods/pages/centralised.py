"""Centralised training: all data in one place, as an upper reference for the distributed methods.

One client has all examples. It trains with the same code and the same number of epochs as the clients of other methods,
keeps its optimiser's state between rounds, and scores its own model. The cost would be that of sending the data set;
the report shows its compressed size.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="centralised", data="pooled", start="local", uplink="none", downlink="none"),
    summary="All data in one place: the reference without distribution.",
    settings={"training": {"keep_optimizer": True}},
)
