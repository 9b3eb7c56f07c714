"""Masks that are drawn or chosen, and weights times a mask, whose gradient passes by that choice.

Bengio, Leonard, Courville: Estimating or Propagating Gradients Through Stochastic Neurons. 2013 (arXiv 1308.3432).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def masked(weights: Tensor, mask: Tensor, through: Tensor) -> Tensor:
    """Return weights * mask. The gradient of `through` is that of weights * through.

    mask, through: of one shape, which broadcasts over the weights'.
    """
    kept: Tensor = _Masked.apply(weights, mask, through)  # type: ignore[no-untyped-call]
    return kept


def drawn(chance: Tensor) -> Tensor:
    """Return a mask drawn by these chances, in a quarter of the time of `torch.bernoulli`."""
    return torch.rand_like(chance) < chance


class _Masked(torch.autograd.Function):
    @staticmethod
    def forward(weights: Tensor, mask: Tensor, through: Tensor) -> Tensor:
        # A product of its own would lose the strides of axes of length 1, by which a convolution chooses its layout:
        # LeNet5's first one would be half as fast again.
        return torch.mul(weights, mask, out=torch.empty_like(weights))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.shape = inputs[2].shape

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        (weights,) = ctx.saved_tensors
        return None, None, (gradient * weights).sum_to_size(ctx.shape)
