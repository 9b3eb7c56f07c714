"""Send random values."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import SubsetStage
from onebasin.codecs.value_block import Flags, ValueBlock, count_of

Share = Annotated[float, Field(gt=0, le=1)]


class RandomK(SubsetStage):
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

    def mask(self, block: ValueBlock, context: CodingContext) -> Flags:
        draws = context.generator(self.name, self.shared)
        mask = np.zeros(block.numel, dtype=np.bool_)
        count = count_of(block.numel, self.share)
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
