"""Stages that remember: what a message could not say is said by the next."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import Scene
from onebasin.codecs.stage import Decode, Encode, Stage
from onebasin.codecs.value_block import Block
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class _Remembering(Stage):
    """Changes what the rest is given; the receiver has nothing to undo."""

    wraps: ClassVar[bool] = True

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        return rest(block)


class ErrorFeedback(_Remembering):
    """What was not sent, times `decay`, is added to what is sent next.

    Seide, Fu, Droppo, Li, Yu: 1-Bit Stochastic Gradient Descent. Interspeech 2014; Karimireddy, Rebjock, Stich, Jaggi:
    Error Feedback Fixes SignSGD. ICML 2019 (arXiv 1901.09847), algorithm 2.
    """

    name: ClassVar[str] = "error-feedback"
    main: ClassVar[str | None] = "decay"

    decay: Annotated[float, Field(gt=0, le=1)] = 1.0

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        left = scene.memory.get(self.name)
        total = values if left is None else values + self.decay * left
        received = rest(total, block)
        scene.kept[self.name] = total - received
        return received


class MomentumCorrection(_Remembering):
    """The sender's momentum is taken of each value apart, and forgotten for values that were sent.

    Lin, Han, Mao, Wang, Dally: Deep Gradient Compression. ICLR 2018 (arXiv 1712.01887), section 3.2 (momentum
    correction) and 3.3 (momentum factor masking); before `error-feedback`, which accumulates what is not sent.
    """

    name: ClassVar[str] = "momentum-correction"
    main: ClassVar[str | None] = "beta"

    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        before = scene.memory.get(self.name)
        velocity = values if before is None else self.beta * before + values
        received = rest(velocity, block)
        scene.kept[self.name] = torch.where(received != 0, 0.0, velocity)
        return received
