"""Partial updates of a random subset of the values."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import SubsetStage
from onebasin.codecs.value_block import Flags, ValueBlock, share_count

Share = Annotated[float, Field(gt=0, le=1)]


class RandomK(SubsetStage):
    """Sends a random `share` of the values, the same for all senders of a round if `shared`, and no positions.

    Both sides draw the positions from the run, the round and, unless `shared`, the sender.

    spread: with `values` each value is equally probable; with `tensors` each tensor sends equally many values, or all
    if it has fewer.

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

    def mask(self, block: ValueBlock, context: CodingContext) -> Flags:
        generator = context.generator(self.name, self.shared)
        mask = np.zeros(block.numel, dtype=np.bool_)
        count = share_count(block.numel, self.share)
        if self.spread == "values":
            mask[torch.randperm(block.numel, generator=generator)[:count].numpy()] = True
            return mask
        by_size = sorted(range(len(block.sizes)), key=block.sizes.__getitem__)
        for index, part in enumerate(by_size):
            begin, end = block.bounds[part]
            part_count = min(end - begin, count // (len(by_size) - index))
            mask[begin + torch.randperm(end - begin, generator=generator)[:part_count].numpy()] = True
            count -= part_count
        return mask
