"""Stages that send some of the values: the largest, random ones, a part in turn; and small tensors by themselves."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import Scene
from onebasin.codecs.mask_coding import read_mask, write_mask
from onebasin.codecs.stage import Decode, Encode, Stage
from onebasin.codecs.value_block import Block, Flags
from onebasin.wire.entropy import SymbolReader, SymbolWriter

Share = Annotated[float, Field(gt=0, le=1)]


class TopK(Stage):
    """Only the largest `share` of the values, by magnitude: of all, or `per` tensor. Where they are is told.

    Aji, Heafield: Sparse Communication for Distributed Gradient Descent. EMNLP 2017 (arXiv 1704.05021).
    """

    name: ClassVar[str] = "top-k"
    main: ClassVar[str | None] = "share"

    share: Share = 0.01
    per: Literal["all", "tensor"] = "all"

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        bounds = block.bounds if self.per == "tensor" else [(0, block.numel)]
        mask = np.zeros(block.numel, dtype=np.bool_)
        for begin, end in bounds:
            mask[begin:end] = _largest(values[begin:end], self.share)
        write_mask(mask, block, out)
        chosen = torch.from_numpy(mask)
        return _scattered(rest(values[chosen], block.chosen(mask)), chosen)

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        mask = read_mask(block, source)
        return _scattered(rest(block.chosen(mask)), torch.from_numpy(mask))


class Known(Stage):
    """A part of the values that both sides know, so that nothing is said about which it is."""

    @property
    def common(self) -> bool:
        """Whether it is the same part for all senders of a round."""
        return True

    def mask(self, block: Block, scene: Scene) -> Flags:
        """Which values are sent."""
        raise NotImplementedError

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        mask = self.mask(block, scene)
        chosen = torch.from_numpy(mask)
        return _scattered(rest(values[chosen], block.chosen(mask)), chosen)

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        mask = self.mask(block, scene)
        return _scattered(rest(block.chosen(mask)), torch.from_numpy(mask))


class RandomK(Known):
    """Only a random `share` of the values, the same for all senders of a round if `shared`: the seed tells which.

    spread: `values`: each is as likely as any other; `tensors`: each tensor sends as many as the others, or all it has.

    Konecny et al.: Federated Learning: Strategies for Improving Communication Efficiency. 2016 (arXiv 1610.05492),
    section 2, random mask.
    """

    name: ClassVar[str] = "random-k"
    main: ClassVar[str | None] = "share"

    share: Share = 0.01
    shared: bool = False
    spread: Literal["values", "tensors"] = "values"

    @property
    def common(self) -> bool:
        return self.shared

    def mask(self, block: Block, scene: Scene) -> Flags:
        draws = scene.generator(self.name, self.shared)
        mask = np.zeros(block.numel, dtype=np.bool_)
        count = _count(block.numel, self.share)
        if self.spread == "values":
            mask[torch.randperm(block.numel, generator=draws)[:count].numpy()] = True
            return mask
        by_size = sorted(range(len(block.sizes)), key=block.sizes.__getitem__)
        for place, part in enumerate(by_size):
            begin, end = block.bounds[part]
            taken = min(end - begin, count // (len(by_size) - place))
            mask[begin + torch.randperm(end - begin, generator=draws)[:taken].numpy()] = True
            count -= taken
        return mask


class Fragment(Known):
    """One of `count` fragments a round, in turn: whole tensors (`by` = tensor), or stretches of equal size.

    Douillard et al.: Streaming DiLoCo with overlapping communication. 2025 (arXiv 2501.18512), section 2.2.
    """

    name: ClassVar[str] = "fragment"
    main: ClassVar[str | None] = "count"

    count: Annotated[int, Field(ge=1)] = 4
    by: Literal["size", "tensor"] = "size"

    def mask(self, block: Block, scene: Scene) -> Flags:
        turn = (scene.round - 1) % self.count
        mask = np.zeros(block.numel, dtype=np.bool_)
        if self.by == "size":
            mask[block.numel * turn // self.count : block.numel * (turn + 1) // self.count] = True
            return mask
        loads = [0] * self.count
        for part in sorted(range(len(block.sizes)), key=lambda n: -block.sizes[n]):
            lightest = loads.index(min(loads))
            loads[lightest] += block.sizes[part]
            if lightest == turn:
                mask[slice(*block.bounds[part])] = True
        return mask


class Small(Stage):
    """Tensors `below` so many values are sent whole, in fp16 or fp32; the others go on."""

    name: ClassVar[str] = "small"
    main: ClassVar[str | None] = "below"

    below: Annotated[int, Field(ge=1)] = 256
    coded: Literal["fp16", "fp32"] = "fp16"

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        large, chosen = self._sorted(block)
        with np.errstate(over="ignore"):  # what becomes infinite is refused as such
            dense = values[chosen].numpy().astype(self._dtype)
        out.floats(dense, self._dtype)
        parts = block.split(values)
        others = torch.cat([parts[n] for n in large]) if large else values[:0]
        return self._together(torch.from_numpy(dense.astype("f4")), rest(others, block.parts(large)), chosen)

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        large, chosen = self._sorted(block)
        dense = source.floats(int(chosen.sum()), self._dtype)
        return self._together(torch.from_numpy(dense.astype("f4")), rest(block.parts(large)), chosen)

    @property
    def _dtype(self) -> str:
        return "<f2" if self.coded == "fp16" else "<f4"

    def _sorted(self, block: Block) -> tuple[list[int], Tensor]:
        """The numbers of the parts that go on, and which values do not."""
        large = [n for n, size in enumerate(block.sizes) if size >= self.below]
        chosen = torch.ones(block.numel, dtype=torch.bool)
        for n in large:
            chosen[slice(*block.bounds[n])] = False
        return large, chosen

    def _together(self, dense: Tensor, others: Tensor, chosen: Tensor) -> Tensor:
        values = torch.empty(len(chosen))
        values[chosen], values[~chosen] = dense, others
        return values


def _count(size: int, share: float) -> int:
    """How many values a share is: at least one, if there are any."""
    return min(size, max(1, round(size * share)))


def _largest(values: Tensor, share: float) -> Flags:
    """The largest of the values that are not zero; of equal ones, those that come first."""
    size = values.abs().numpy()
    if not len(size):
        return np.zeros(0, dtype=np.bool_)
    count = _count(len(size), share)
    least = np.partition(size, len(size) - count)[len(size) - count]
    mask: Flags = size > least
    if least > 0:
        mask[np.flatnonzero(size == least)[: count - int(mask.sum())]] = True
    return mask


def _scattered(kept: Tensor, chosen: Tensor) -> Tensor:
    values = torch.zeros(len(chosen))
    values[chosen] = kept
    return values
