"""All weights are trained, and the forward pass uses the update as a mask over seeded noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from torch import nn

from onebasin.learning.parametrization import Parametrization


class MaskedNoise(Parametrization):
    """All weights are trained; the forward pass uses their update as the uplink `masked-noise` will send it.

    progressive: the share of values that are masked grows during a local phase; if not set, all are masked in all
    steps.
    Source: Li et al.: Masked Random Noise for Communication-Efficient Federated Learning (FedMRN). ACM Multimedia 2024
    (arXiv 2408.03220).
    """

    keeps_weights: ClassVar[bool] = True
    begins_with_weights: ClassVar[bool] = True
    trains_updates_as_masks: ClassVar[bool] = True

    kind: Literal["masked-noise"] = "masked-noise"
    progressive: bool = True

    @property
    def masks_progressively(self) -> bool:
        return self.progressive

    def apply(self, model: nn.Module, seed: int, common_seed: int) -> nn.Module:
        return model

    def needs(self, method: Any) -> Iterator[str]:
        if not method.masks_noise(method.uplink):
            yield (
                "parametrization='masked-noise' is trained towards what an uplink of 'masked-noise' sends, by itself; "
                f"not {method.uplink!r}"
            )
