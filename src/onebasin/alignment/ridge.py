"""Ridge regression of what a layer should say on what it takes, towards the weights that it has."""

from __future__ import annotations

import torch
from torch import Tensor

LARGE = 1024
"""With more inputs than this, sums are made in single precision."""


class Ridge:
    """Sums over rows, and the weights that follow from them.

    weight: [groups, outputs, inputs]; bias: [groups, outputs], regressed as the weight of a constant, or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._biased = bias is not None
        self._before = weight if bias is None else torch.cat([weight, bias.unsqueeze(-1)], -1)
        groups, outputs, size = self._before.shape
        self._exact = torch.float64 if size <= LARGE else torch.float32
        self._gram = torch.zeros(groups, size, size, dtype=self._exact)
        self._cross = torch.zeros(groups, size, outputs, dtype=self._exact)

    def add(self, taken: Tensor, wanted: Tensor) -> None:
        """Add rows of what the layer multiplies, [rows, groups, inputs], and should say, [rows, groups, outputs]."""
        taken = taken.to(self._exact)
        if self._biased:
            taken = torch.cat([taken, torch.ones(*taken.shape[:2], 1, dtype=self._exact)], -1)
        missing = wanted.to(self._exact) - torch.einsum("rgi,goi->rgo", taken, self._before.to(self._exact))
        self._gram += torch.einsum("rgi,rgj->gij", taken, taken)
        self._cross += torch.einsum("rgi,rgo->gio", taken, missing)

    def solve(self, ridge: float, weight: Tensor, bias: Tensor | None) -> None:
        """Overwrite a layer's parameters; ridge: the pull to what was, in units of the mean square of an input."""
        size = self._gram.shape[-1]
        pull = ridge * self._gram.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-12)
        gram = self._gram.double() + pull.double()[:, None, None] * torch.eye(size, dtype=torch.float64)
        after = self._before.double() + torch.linalg.solve(gram, self._cross.double()).mT
        if bias is not None:
            bias.copy_(after[..., -1].reshape(bias.shape))
            after = after[..., :-1]
        weight.copy_(after.reshape(weight.shape))
