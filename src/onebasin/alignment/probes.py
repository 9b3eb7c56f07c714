"""Synthetic inputs to ask networks with, from nothing but a seed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from onebasin.seeds import generator

COARSE = 4
"""Noise is drawn on a grid that is this much coarser than the input, and interpolated: pictures are smooth."""

_SMOOTH = {1: "linear", 2: "bilinear", 3: "trilinear"}


def noise(shape: tuple[int, ...], count: int, seed: int) -> Tensor:
    """Return `count` inputs [count, *shape]: normal noise, smooth along all axes but the first of several.

    Every value has mean 0 and variance 1 over the inputs, as normalised data has.
    """
    draws = generator(seed, "noise")
    if len(shape) < 2:
        return torch.randn(count, *shape, generator=draws)
    grid = [max(2, -(-size // COARSE)) for size in shape[1:]]
    inputs = F.interpolate(
        torch.randn(count, shape[0], *grid, generator=draws),
        size=shape[1:],
        mode=_SMOOTH[len(grid)],
        align_corners=False,
    )
    for axis, (coarse, fine) in enumerate(zip(grid, shape[1:], strict=True), start=2):
        blended = F.interpolate(torch.eye(coarse).unsqueeze(1), size=fine, mode="linear", align_corners=False)
        deviation = blended.square().sum(0).sqrt().flatten()  # of a mixture of independent neighbours
        inputs = inputs / deviation.view([-1 if dim == axis else 1 for dim in range(inputs.ndim)])
    return inputs


def tokens(length: int, vocabulary: int, count: int, seed: int) -> Tensor:
    """Return `count` sequences of uniformly drawn tokens, int64 [count, length]."""
    return torch.randint(vocabulary, (count, length), generator=generator(seed, "tokens"))
