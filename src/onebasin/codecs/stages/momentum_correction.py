"""Send momenta in the place of values."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import Encode, ResidualStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolWriter


class MomentumCorrection(ResidualStage):
    """The sender's momentum is taken of each value apart, and forgotten for values that were sent.

    Lin, Han, Mao, Wang, Dally: Deep Gradient Compression. ICLR 2018 (arXiv 1712.01887), section 3.2 (momentum
    correction) and 3.3 (momentum factor masking); before `error-feedback`, which accumulates what is not sent.
    """

    name: ClassVar[str] = "momentum-correction"
    main: ClassVar[str | None] = "beta"

    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        before = context.residuals.get(self.name)
        velocity = values if before is None else self.beta * before + values
        received = rest(velocity, block)
        context.next_residuals[self.name] = torch.where(received != 0, 0.0, velocity)
        return received
