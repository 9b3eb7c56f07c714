"""Add to each message what earlier ones left out."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import Encode, ResidualStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolWriter


class ErrorFeedback(ResidualStage):
    """What was not sent, times `decay`, is added to what is sent next.

    Seide, Fu, Droppo, Li, Yu: 1-Bit Stochastic Gradient Descent. Interspeech 2014; Karimireddy, Rebjock, Stich, Jaggi:
    Error Feedback Fixes SignSGD. ICML 2019 (arXiv 1901.09847), algorithm 2.
    """

    name: ClassVar[str] = "error-feedback"
    main: ClassVar[str | None] = "decay"

    decay: Annotated[float, Field(gt=0, le=1)] = 1.0

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        left = context.residuals.get(self.name)
        total = values if left is None else values + self.decay * left
        received = rest(total, block)
        context.next_residuals[self.name] = total - received
        return received
