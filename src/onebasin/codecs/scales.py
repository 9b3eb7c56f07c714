"""The scales that precede the symbols of a block: one for all values, or one per part."""

from __future__ import annotations

import torch
from torch import Tensor

from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader
from onebasin.wire.error import WireError


def mean_magnitudes(values: Tensor, block: ValueBlock, scale: str) -> Tensor:
    """Return the mean magnitude of values [n] in float32: [1] with scale "all", [parts] with "tensor".

    With scale "one" it is 1 whatever the values, [1].
    """
    if scale == "one":
        return torch.ones(1)
    parts = [values] if scale == "all" else block.split(values)
    return torch.tensor([float(part.abs().double().mean()) if len(part) else 0.0 for part in parts])


def read_scales(source: SymbolReader, count: int) -> Tensor:
    """Return scales [count], float32. Errors: `WireError` if one is negative, NaN or infinite."""
    scales = torch.from_numpy(source.floats(count))
    if not bool(torch.isfinite(scales).all()) or bool((scales < 0).any()):
        raise WireError("a scale is negative, NaN or infinite")
    return scales
