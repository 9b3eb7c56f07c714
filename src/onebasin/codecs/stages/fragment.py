"""Send one fragment of the values a round, in turn."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import SubsetStage
from onebasin.codecs.value_block import Flags, ValueBlock

Share = Annotated[float, Field(gt=0, le=1)]


class Fragment(SubsetStage):
    """One of `count` fragments a round, in turn: whole tensors (`by` = tensor), or stretches of equal size.

    Douillard et al.: Streaming DiLoCo with overlapping communication. 2025 (arXiv 2501.18512), section 2.2.
    """

    name: ClassVar[str] = "fragment"
    main: ClassVar[str | None] = "count"

    count: Annotated[int, Field(ge=1)] = 4
    by: Literal["size", "tensor"] = "size"

    def mask(self, block: ValueBlock, context: CodingContext) -> Flags:
        turn = (context.round - 1) % self.count
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
