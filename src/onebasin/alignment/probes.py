"""Synthetic inputs to ask networks with, from nothing but a seed, or from the networks themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onebasin.alignment.forward_hooks import forward
from onebasin.alignment.models import State
from onebasin.core.seeds import generator

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


def continued(model: nn.Module, states: Sequence[State], length: int, vocabulary: int, count: int, seed: int) -> Tensor:
    """Return `count` sequences that language models write: each its part, from a first token that is drawn uniformly.

    states: of models [n, positions] -> [n, positions, vocabulary], whose logits at a place are of the token that
    follows. The next token is drawn from what a model says of all before it: int64 [count, length], like real text as
    far as the models are good, where uniform tokens are unlike any.
    """
    draws = generator(seed, "continued")
    parts = []
    for index, state in enumerate(states[:count]):
        share = len(range(index, count, len(states)))
        text = torch.randint(vocabulary, (share, 1), generator=draws)
        while text.shape[1] < length:
            chances = torch.softmax(forward(model, state, text)[:, -1].float(), -1)
            text = torch.cat([text, torch.multinomial(chances, 1, generator=draws)], 1)
        parts.append(text)
    return torch.cat(parts)
