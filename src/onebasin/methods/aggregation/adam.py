"""Apply the mean update with Adam.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: Adaptive Federated Optimization. ICLR 2021 (arXiv
2003.00295), algorithm 2.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from onebasin.methods.aggregation._adaptive import Adaptive


class Adam(Adaptive):
    """m = beta1 m + (1 - beta1) mean update; w + rate * m / (sqrt(v) + tau), v by Adam's rule."""

    kind: Literal["adam"] = "adam"

    def _second_moment(self, second: Tensor, square: Tensor) -> Tensor:
        return self.beta2 * second + (1 - self.beta2) * square
