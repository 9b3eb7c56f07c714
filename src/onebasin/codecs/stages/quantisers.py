"""Stages that end a chain: values become symbols, and the receiver has what the symbols stand for."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import Scene
from onebasin.codecs.fitted_levels import fitted_levels
from onebasin.codecs.stage import Decode, Encode, Stage
from onebasin.codecs.value_block import Block
from onebasin.wire.entropy import SymbolReader, SymbolWriter
from onebasin.wire.error import WireError
from onebasin.wire.gaussian_levels import gaussian_levels


class End(Stage):
    """values -> (numbers, symbols) -> values; `_values` is what both sides do to get from symbols to values."""

    ends: ClassVar[bool] = True


class Float32(End):
    """32 bits a value, exact."""

    name: ClassVar[str] = "fp32"

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        out.floats(values.numpy())
        return values.clone()

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        return torch.from_numpy(source.floats(block.numel))


class Float16(End):
    """16 bits a value: IEEE half precision."""

    name: ClassVar[str] = "fp16"

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        halves = values.half()
        out.floats(halves.numpy(), "<f2")
        return halves.float()

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        return torch.from_numpy(source.floats(block.numel, "<f2").astype("f4"))


class Sign(End):
    """1 bit a value, and a magnitude: the mean of `all` values or of each `tensor`; or `one`, as majority votes need.

    Bernstein et al.: signSGD. ICML 2018 (arXiv 1802.04434). After top-k: the ternary values of Sattler et al. 2019.
    """

    name: ClassVar[str] = "sign"
    main: ClassVar[str | None] = "scale"

    scale: Literal["all", "tensor", "one"] = "all"

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        scales = _mean_magnitudes(values, block, self.scale)
        out.floats(scales.numpy()[: self._sent(block)])
        positive = values > 0
        out.integers(positive.numpy(), 2)
        return self._values(positive, scales, block)

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        scales = torch.ones(1) if self.scale == "one" else _scales(source, self._sent(block))
        return self._values(torch.from_numpy(source.integers(block.numel, 2) > 0), scales, block)

    def _sent(self, block: Block) -> int:
        return {"all": 1, "tensor": len(block.shapes), "one": 0}[self.scale]

    def _values(self, positive: Tensor, scales: Tensor, block: Block) -> Tensor:
        return torch.where(positive, 1.0, -1.0) * _each(scales, block)


class Ternary(End):
    """-m, 0 or m: zero up to `threshold` mean magnitudes of a tensor, else m, the mean magnitude of what exceeds that.

    Li, Zhang, Liu: Ternary Weight Networks. 2016 (arXiv 1605.04711), eq. 6 and 5; symbols at their entropy, so that a
    higher threshold costs less: of normal values 1.56 bits at 0.7 and 1.3 at 1.1.
    """

    name: ClassVar[str] = "ternary"
    main: ClassVar[str | None] = "threshold"

    threshold: Annotated[float, Field(ge=0, le=100)] = 0.7

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        size = values.abs()
        large = size > block.spread(_mean_magnitudes(values, block, "tensor") * self.threshold)
        counts = torch.stack([part.sum() for part in block.split(large)]) if block.shapes else torch.zeros(0)
        sums = [float(part.double().sum()) for part in block.split(size * large)]
        scales = torch.tensor(sums, dtype=torch.float64).div(counts.clamp(min=1)).float()
        out.floats(scales.numpy())
        symbols = torch.where(large, values.sign(), 0.0).int() + 1
        out.symbols(symbols.numpy(), 3)
        return self._values(symbols, scales, block)

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        scales = _scales(source, len(block.shapes))
        return self._values(torch.from_numpy(source.symbols(block.numel, 3)), scales, block)

    def _values(self, symbols: Tensor, scales: Tensor, block: Block) -> Tensor:
        return (symbols - 1).float() * block.spread(scales)


class Uniform(End):
    """`bits` a value or less: whole multiples of a step, the largest of each tensor being the last.

    rounding: to the `nearest`, or `stochastic`: up or down such that the mean is right.
    """

    name: ClassVar[str] = "uniform"
    main: ClassVar[str | None] = "bits"

    bits: Annotated[int, Field(ge=2, le=8)] = 4
    rounding: Literal["nearest", "stochastic"] = "nearest"

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        largest = [float(part.abs().max()) if len(part) else 0.0 for part in block.split(values)]
        scales = torch.tensor(largest, dtype=torch.float64).div(self._levels).float()
        steps = values / block.spread(torch.where(scales > 0, scales, 1.0))
        if self.rounding == "stochastic":
            steps = torch.floor(steps + torch.rand(len(steps), generator=scene.generator(self.name)))
        symbols = steps.round().clamp(-self._levels, self._levels).int() + self._levels
        out.floats(scales.numpy())
        out.symbols(symbols.numpy(), 2 * self._levels + 1)
        return self._values(symbols, scales, block)

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        scales = _scales(source, len(block.shapes))
        return self._values(torch.from_numpy(source.symbols(block.numel, 2 * self._levels + 1)), scales, block)

    @property
    def _levels(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def _values(self, symbols: Tensor, scales: Tensor, block: Block) -> Tensor:
        return (symbols - self._levels).float() * block.spread(scales)


class Qsgd(End):
    """Multiples of 1/`levels` of a tensor's length, stochastically rounded, so that the mean is right.

    Alistarh, Grubic, Li, Tomioka, Vojnovic: QSGD. NIPS 2017 (arXiv 1610.02132), section 3.1; symbols at their entropy.
    """

    name: ClassVar[str] = "qsgd"
    main: ClassVar[str | None] = "levels"

    levels: Annotated[int, Field(ge=1, le=127)] = 8

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        lengths = torch.tensor([float(part.double().norm()) for part in block.split(values)])
        share = values.abs() / block.spread(torch.where(lengths > 0, lengths, 1.0)) * self.levels
        draws = torch.rand(len(share), generator=scene.generator(self.name))
        symbols = (torch.floor(share + draws).clamp(max=self.levels) * values.sign()).int() + self.levels
        out.floats(lengths.numpy())
        out.symbols(symbols.numpy(), 2 * self.levels + 1)
        return self._values(symbols, lengths, block)

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        lengths = _scales(source, len(block.shapes))
        return self._values(torch.from_numpy(source.symbols(block.numel, 2 * self.levels + 1)), lengths, block)

    def _values(self, symbols: Tensor, lengths: Tensor, block: Block) -> Tensor:
        return (symbols - self.levels).float() / self.levels * block.spread(lengths)


class Eden(End):
    """`bits` a value by the least-squares levels of the normal distribution, and a scale; for rotated values.

    The scale of each part makes the mean right. Vargaftik et al.: EDEN. ICML 2022 (arXiv 2108.08842), algorithm 1; with
    one bit it is DRIVE (NeurIPS 2021, arXiv 2105.08339).
    """

    name: ClassVar[str] = "eden"
    main: ClassVar[str | None] = "bits"

    bits: Annotated[int, Field(ge=1, le=8)] = 1

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        edges, levels = gaussian_levels(self.bits)
        parts, codes, scales = block.split(values), [], []
        for part in parts:
            square = float(part.double().square().sum())
            norm = math.sqrt(square / max(len(part), 1)) or 1.0
            found = np.searchsorted(edges, (part.double() / norm).numpy())
            along = float((part.double().numpy() * levels[found]).sum())
            codes.append(found)
            scales.append(square / along if along > 0 else 0.0)
        told = torch.tensor(scales, dtype=torch.float64).float()
        symbols = np.concatenate(codes).astype(np.int32) if codes else np.zeros(0, dtype=np.int32)
        out.floats(told.numpy())
        out.symbols(symbols, 1 << self.bits)
        return self._values(symbols, told, block)

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        scales = _scales(source, len(block.shapes))
        return self._values(source.symbols(block.numel, 1 << self.bits), scales, block)

    def _values(self, symbols: np.ndarray, scales: Tensor, block: Block) -> Tensor:
        levels = gaussian_levels(self.bits)[1].astype(np.float32)
        return torch.from_numpy(levels[symbols]) * block.spread(scales)


class Lloyd(End):
    """`bits` a value by the least-squares levels of the very values, which are told before them; all tensors together.

    For values whose distribution no other stage assumes, such as what top-k leaves. Lloyd: Least Squares Quantization
    in PCM. IEEE Trans. Inf. Theory 1982.
    """

    name: ClassVar[str] = "lloyd"
    main: ClassVar[str | None] = "bits"

    bits: Annotated[int, Field(ge=1, le=6)] = 2

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        levels = fitted_levels(values.numpy(), 1 << self.bits)
        symbols = np.searchsorted((levels[1:].astype(np.float64) + levels[:-1]) / 2, values.numpy()).astype(np.int32)
        out.floats(levels)
        out.symbols(symbols, 1 << self.bits)
        return torch.from_numpy(levels[symbols])

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        levels = source.floats(1 << self.bits)
        if not np.isfinite(levels).all():
            raise WireError("a level is NaN or infinite")
        return torch.from_numpy(levels[source.symbols(block.numel, 1 << self.bits)])


def _mean_magnitudes(values: Tensor, block: Block, scale: str) -> Tensor:
    if scale == "one":
        return torch.ones(1)
    parts = [values] if scale == "all" else block.split(values)
    return torch.tensor([float(part.abs().double().mean()) if len(part) else 0.0 for part in parts])


def _each(scales: Tensor, block: Block) -> Tensor:
    return scales if len(scales) == 1 else block.spread(scales)


def _scales(source: SymbolReader, count: int) -> Tensor:
    scales = torch.from_numpy(source.floats(count))
    if not bool(torch.isfinite(scales).all()) or bool((scales < 0).any()):
        raise WireError("a scale is negative, NaN or infinite")
    return scales
