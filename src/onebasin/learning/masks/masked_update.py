"""Training in which a model is, step by step, more of what will be sent of it: progressive stochastic masking.

Li et al.: Masked Random Noise for Communication-Efficient Federated Learning (FedMRN). ACM Multimedia 2024 (arXiv
2408.03220).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from onebasin.codecs.stages.masked_noise import clipped, masked, stochastic_mask
from onebasin.core.layout import Tensors


@dataclass(frozen=True)
class MaskedUpdate:
    """The noise that an update is masked of, by parameter, and how (`codecs/stages/masked_noise.py`).

    progressive: in step t of T a value is masked with chance t / T, and else cut off where its noise ends; or all are
    masked in all steps.
    """

    noise: Tensors
    signed: bool
    progressive: bool = True

    def of(self, update: Tensor, noise: Tensor, progress: float, draws: torch.Generator) -> Tensor:
        """Return an update as it stands in for itself when `progress` of the steps are done, from 0 to 1."""
        sent = masked(noise, stochastic_mask(update, noise, self.signed, draws), self.signed)
        if not self.progressive or progress >= 1:
            return sent
        early = torch.rand(update.shape, generator=draws) >= progress
        return torch.where(early, clipped(update, noise, self.signed), sent)


@contextmanager
def forward_with_masked_update(
    parameters: Tensors, began: Tensors, masking: MaskedUpdate, progress: float, draws: torch.Generator
) -> Iterator[None]:
    """Have parameters be, for a forward and a backward pass, what they began with and their masked update.

    Afterwards they have their own values again, and the gradient at what stood in for them.
    """
    own = {name: parameter.clone() for name, parameter in parameters.items()}
    with torch.no_grad():
        for name, parameter in parameters.items():
            update = parameter - began[name]
            parameter.copy_(began[name] + masking.of(update, masking.noise[name], progress, draws))
    yield
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(own[name])
