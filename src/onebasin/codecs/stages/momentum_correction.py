"""Momentum at the sender, for chains that send only some of the values."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import EncodeNext, ResidualStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolWriter


class MomentumCorrection(ResidualStage):
    """Encodes the sender's momentum (factor `beta`) in the place of the values, and resets it where values were sent.

    Lin, Han, Mao, Wang, Dally: Deep Gradient Compression. ICLR 2018 (arXiv 1712.01887), section 3.2 (momentum
    correction) and 3.3 (momentum factor masking). Use it before `error-feedback`, which accumulates unsent values.
    """

    name: ClassVar[str] = "momentum-correction"
    main: ClassVar[str | None] = "beta"

    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        momentum = context.residuals.get(self.name)
        velocity = values if momentum is None else self.beta * momentum + values
        received = encode_next(velocity, block)
        context.next_residuals[self.name] = torch.where(received != 0, 0.0, velocity)
        return received
