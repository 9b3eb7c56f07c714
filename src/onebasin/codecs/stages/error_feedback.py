"""Error feedback: the residual of one message is added to the next."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import EncodeNext, ResidualStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolWriter


class ErrorFeedback(ResidualStage):
    """Adds the residual of the sender's last message, times `decay`, to the values before the next stages encode them.

    The residual is the difference between the values to be encoded and the decoded values. Seide, Fu, Droppo, Li, Yu:
    1-Bit Stochastic Gradient Descent. Interspeech 2014; Karimireddy, Rebjock, Stich, Jaggi: Error Feedback Fixes
    SignSGD. ICML 2019 (arXiv 1901.09847), algorithm 2.
    """

    name: ClassVar[str] = "error-feedback"
    main: ClassVar[str | None] = "decay"

    decay: Annotated[float, Field(gt=0, le=1)] = 1.0

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        residual = context.residuals.get(self.name)
        total = values if residual is None else values + self.decay * residual
        received = encode_next(total, block)
        context.next_residuals[self.name] = total - received
        return received
