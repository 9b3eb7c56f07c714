"""Send small tensors whole, beside what other stages do to large ones."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import Decode, Encode, Stage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Small(Stage):
    """Tensors `below` so many values are sent whole, in fp16 or fp32; the others go on."""

    name: ClassVar[str] = "small"
    main: ClassVar[str | None] = "below"

    below: Annotated[int, Field(ge=1)] = 256
    coded: Literal["fp16", "fp32"] = "fp16"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        large, chosen = self._sorted(block)
        with np.errstate(over="ignore"):  # what becomes infinite is refused as such
            dense = values[chosen].numpy().astype(self._dtype)
        out.floats(dense, self._dtype)
        parts = block.split(values)
        others = torch.cat([parts[n] for n in large]) if large else values[:0]
        return self._together(torch.from_numpy(dense.astype("f4")), rest(others, block.parts(large)), chosen)

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        large, chosen = self._sorted(block)
        dense = source.floats(int(chosen.sum()), self._dtype)
        return self._together(torch.from_numpy(dense.astype("f4")), rest(block.parts(large)), chosen)

    @property
    def _dtype(self) -> str:
        return "<f2" if self.coded == "fp16" else "<f4"

    def _sorted(self, block: ValueBlock) -> tuple[list[int], Tensor]:
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
