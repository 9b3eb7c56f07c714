"""Centralised training: all data in one place, the bar that no distributed method needs to pass.

One client holds everything, trains with the same local loop for the same number of epochs, keeps its optimiser from
round to round, and reports its own score. What it would cost is the data set: the report shows its compressed size.
"""

from onebasin.methods.method import Method
from onebasin.methods.page import Page

PAGE = Page(
    method=Method(name="centralised", data="pooled", start="local", uplink="none", downlink="none"),
    summary="All data in one place: the non-distributed bar.",
    settings={"training": {"keep_optimizer": True}},
)
