"""Ridge regression of a layer's targets on its inputs, with a penalty on the distance from its present weights."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_DOUBLE_PRECISION_INPUTS = 1024
"""Layers with more inputs accumulate their sums in single precision."""


class Ridge:
    """The sums over rows that determine the weights, and the weights that solve the regression.

    weight: [groups, outputs, inputs]. bias: [groups, outputs], fitted as the weight of a constant input, or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._has_bias = bias is not None
        self._initial = weight if bias is None else torch.cat([weight, bias.unsqueeze(-1)], -1)
        groups, outputs, size = self._initial.shape
        self._dtype = torch.float64 if size <= MAX_DOUBLE_PRECISION_INPUTS else torch.float32
        self._gram = torch.zeros(groups, size, size, dtype=self._dtype)
        self._cross = torch.zeros(groups, size, outputs, dtype=self._dtype)

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """Add rows of layer inputs [rows, groups, inputs] with their targets [rows, groups, outputs]."""
        inputs = inputs.to(self._dtype)
        if self._has_bias:
            inputs = torch.cat([inputs, torch.ones(*inputs.shape[:2], 1, dtype=self._dtype)], -1)
        residual = targets.to(self._dtype) - torch.einsum("rgi,goi->rgo", inputs, self._initial.to(self._dtype))
        self._gram += torch.einsum("rgi,rgj->gij", inputs, inputs)
        self._cross += torch.einsum("rgi,rgo->gio", inputs, residual)

    def solve(self, ridge: float, weight: Tensor, bias: Tensor | None) -> None:
        """Overwrite a layer's parameters with the solution.

        ridge: the penalty, in units of the mean square of an input.
        """
        size = self._gram.shape[-1]
        penalty = ridge * self._gram.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-12)
        gram = self._gram.double() + penalty.double()[:, None, None] * torch.eye(size, dtype=torch.float64)
        after = self._initial.double() + torch.linalg.solve(gram, self._cross.double()).mT
        if bias is not None:
            bias.copy_(after[..., -1].reshape(bias.shape))
            after = after[..., :-1]
        weight.copy_(after.reshape(weight.shape))
