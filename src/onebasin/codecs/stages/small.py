"""Small tensors, such as biases, are sent value by value; the following stages encode the large ones."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import DecodeNext, EncodeNext, Stage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Small(Stage):
    """Sends tensors of fewer than `below` values in fp16 or fp32; the next stages encode the other tensors."""

    name: ClassVar[str] = "small"
    main: ClassVar[str | None] = "below"

    below: Annotated[int, Field(ge=1)] = 256
    coded: Literal["fp16", "fp32"] = "fp16"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        large_parts, is_small = self._split(block)
        with np.errstate(over="ignore"):  # the chain refuses values that become infinite here
            small_values = values[is_small].numpy().astype(self._dtype)
        out.floats(small_values, self._dtype)
        parts = block.split(values)
        large_values = torch.cat([parts[index] for index in large_parts]) if large_parts else values[:0]
        received = encode_next(large_values, block.select_parts(large_parts))
        return self._join(torch.from_numpy(small_values.astype("f4")), received, is_small)

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        large_parts, is_small = self._split(block)
        small_values = torch.from_numpy(source.floats(int(is_small.sum()), self._dtype).astype("f4"))
        return self._join(small_values, decode_next(block.select_parts(large_parts)), is_small)

    @property
    def _dtype(self) -> str:
        return "<f2" if self.coded == "fp16" else "<f4"

    def _split(self, block: ValueBlock) -> tuple[list[int], Tensor]:
        """Return the indices of the large parts, and which values [n] are in small ones."""
        large_parts = [index for index, size in enumerate(block.sizes) if size >= self.below]
        is_small = torch.ones(block.numel, dtype=torch.bool)
        for index in large_parts:
            is_small[slice(*block.bounds[index])] = False
        return large_parts, is_small

    def _join(self, small_values: Tensor, large_values: Tensor, is_small: Tensor) -> Tensor:
        values = torch.empty(len(is_small))
        values[is_small], values[~is_small] = small_values, large_values
        return values
