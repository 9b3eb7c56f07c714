"""All weights are trained; nothing is replaced."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import nn

from onebasin.learning.parametrization import Parametrization


class Dense(Parametrization):
    """All weights are trained and sent."""

    keeps_weights: ClassVar[bool] = True
    begins_with_weights: ClassVar[bool] = True

    kind: Literal["dense"] = "dense"

    def apply(self, model: nn.Module, seed: int, common_seed: int) -> nn.Module:
        return model
