"""The client's loss alone."""

from typing import Literal

from onebasin.learning.objective import Objective


class Plain(Objective):
    """The client's loss alone, mean cross-entropy on its examples."""

    kind: Literal["plain"] = "plain"
