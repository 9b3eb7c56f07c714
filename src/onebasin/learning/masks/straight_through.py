"""Straight-through gradients: weights times a mask, with a gradient for the scores from which the mask was made.

Bengio, Leonard, Courville: Estimating or Propagating Gradients Through Stochastic Neurons. 2013 (arXiv 1308.3432).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def apply_mask(weights: Tensor, mask: Tensor, scores: Tensor) -> Tensor:
    """Return weights * mask. In the backward pass, `scores` gets the gradient of weights * scores.

    mask, scores: of the same shape, which broadcasts over that of the weights.
    """
    masked: Tensor = _ApplyMask.apply(weights, mask, scores)  # type: ignore[no-untyped-call]
    return masked


def draw_mask(probabilities: Tensor) -> Tensor:
    """Return a boolean mask that is true with these probabilities, in a quarter of the time of `torch.bernoulli`."""
    return torch.rand_like(probabilities) < probabilities


class _ApplyMask(torch.autograd.Function):
    @staticmethod
    def forward(weights: Tensor, mask: Tensor, scores: Tensor) -> Tensor:
        # A plain product would lose the strides of axes of length 1, by which a convolution chooses its memory layout:
        # LeNet5's first convolution would take 1.5 times as long.
        return torch.mul(weights, mask, out=torch.empty_like(weights))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.shape = inputs[2].shape

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        (weights,) = ctx.saved_tensors
        return None, None, (gradient * weights).sum_to_size(ctx.shape)
