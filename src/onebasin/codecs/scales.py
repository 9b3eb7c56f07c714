"""Magnitudes that go before the symbols of a block: one for all values, or one for each tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader
from onebasin.wire.error import WireError


def mean_magnitudes(values: Tensor, block: ValueBlock, scale: str) -> Tensor:
    if scale == "one":
        return torch.ones(1)
    parts = [values] if scale == "all" else block.split(values)
    return torch.tensor([float(part.abs().double().mean()) if len(part) else 0.0 for part in parts])


def read_scales(source: SymbolReader, count: int) -> Tensor:
    scales = torch.from_numpy(source.floats(count))
    if not bool(torch.isfinite(scales).all()) or bool((scales < 0).any()):
        raise WireError("a scale is negative, NaN or infinite")
    return scales
