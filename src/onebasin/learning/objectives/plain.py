"""The client's own loss."""

from typing import Literal

from onebasin.learning.objective import Objective


class Plain(Objective):
    """The client minimises its own loss."""

    kind: Literal["plain"] = "plain"
