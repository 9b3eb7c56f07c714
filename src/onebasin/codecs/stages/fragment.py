"""Partial updates in rotation: one fragment of the values per round."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import SubsetStage
from onebasin.codecs.value_block import Flags, ValueBlock


class Fragment(SubsetStage):
    """Sends one of `count` fragments per round, in turn: ranges of equal size, or whole tensors if `by` is tensor.

    Whole tensors are divided into fragments of about equal size. Douillard et al.: Streaming DiLoCo with overlapping
    communication. 2025 (arXiv 2501.18512), section 2.2.
    """

    name: ClassVar[str] = "fragment"
    main: ClassVar[str | None] = "count"

    count: Annotated[int, Field(ge=1)] = 4
    by: Literal["size", "tensor"] = "size"

    def mask(self, block: ValueBlock, context: CodingContext) -> Flags:
        current = (context.round - 1) % self.count
        mask = np.zeros(block.numel, dtype=np.bool_)
        if self.by == "size":
            mask[block.numel * current // self.count : block.numel * (current + 1) // self.count] = True
            return mask
        fragment_sizes = [0] * self.count
        for part in sorted(range(len(block.sizes)), key=lambda index: -block.sizes[index]):
            smallest = fragment_sizes.index(min(fragment_sizes))
            fragment_sizes[smallest] += block.sizes[part]
            if smallest == current:
                mask[slice(*block.bounds[part])] = True
        return mask
