"""Apply the mean update with Yogi.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: Adaptive Federated Optimization. ICLR 2021 (arXiv
2003.00295), algorithm 2.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from onebasin.methods.aggregation._adaptive import Adaptive


class Yogi(Adaptive):
    """m = beta1 m + (1 - beta1) mean update; w + rate * m / (sqrt(v) + tau), v by Yogi's rule."""

    kind: Literal["yogi"] = "yogi"

    def _second_moment(self, second: Tensor, square: Tensor) -> Tensor:
        return second - (1 - self.beta2) * square * torch.sign(second - square)
