"""Progressive stochastic masking: the forward pass uses the update as a mask over noise, in more values at each step.

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
    """How an update is turned into a mask over noise (`codecs/stages/masked_noise.py`).

    noise: by parameter; the uplink uses the same.
    signed: the mask chooses between noise and -noise, rather than between noise and 0.
    progressive: in step t of T, each value is masked with probability t / T, and otherwise clipped to the range of its
    noise; if not set, all values are masked in all steps.
    """

    noise: Tensors
    signed: bool
    progressive: bool = True

    def apply(self, update: Tensor, noise: Tensor, progress: float, draws: torch.Generator) -> Tensor:
        """Return the values that replace an update in the forward pass, of the same shape.

        update, noise: of one parameter.
        progress: the share t / T of the steps, from 0 to 1.
        """
        as_sent = masked(noise, stochastic_mask(update, noise, self.signed, draws), self.signed)
        if not self.progressive or progress >= 1:
            return as_sent
        unmasked = torch.rand(update.shape, generator=draws) >= progress
        return torch.where(unmasked, clipped(update, noise, self.signed), as_sent)


@contextmanager
def forward_with_masked_update(
    parameters: Tensors, initial: Tensors, masking: MaskedUpdate, progress: float, draws: torch.Generator
) -> Iterator[None]:
    """Replace parameters by their initial values plus the masked update, for a forward and a backward pass.

    Afterwards the parameters have their own values again; their gradients are those at the replaced values.
    parameters: changed in place. initial: their values at the start of the local phase.
    """
    own = {name: parameter.clone() for name, parameter in parameters.items()}
    with torch.no_grad():
        for name, parameter in parameters.items():
            update = parameter - initial[name]
            parameter.copy_(initial[name] + masking.apply(update, masking.noise[name], progress, draws))
    yield
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(own[name])
