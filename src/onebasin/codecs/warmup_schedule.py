"""Two codings for one run: the first rounds say more, the others go on from there by another."""

from __future__ import annotations

from onebasin.codecs.codec import Codec
from onebasin.codecs.context import CodingContext
from onebasin.codecs.value_block import ChangeHistory
from onebasin.core.layout import Tensors


class WarmupSchedule(Codec):
    """Messages of the first `rounds` rounds are of one coding, later ones of another; both bodies say which they are.

    What the first remembers of its last message (error feedback) is passed on if the other has the same stage.
    """

    def __init__(self, rounds: int, first: Codec, then: Codec) -> None:
        self._rounds, self._first, self._then = rounds, first, then
        self.name = f"{first.name} for {rounds} rounds, then {then.name}"
        super().__init__(then.layout)

    def send(
        self, tensors: Tensors, context: CodingContext, history: ChangeHistory | None = None
    ) -> tuple[bytes, Tensors]:
        return self.at(context.round).send(tensors, context, history)

    def receive(self, body: bytes, context: CodingContext, history: ChangeHistory | None = None) -> Tensors:
        return self.at(context.round).receive(body, context, history)

    def sent_mask(self, context: CodingContext) -> Tensors | None:
        return self.at(context.round).sent_mask(context)

    @property
    def most_bytes(self) -> int:
        return max(self._first.most_bytes, self._then.most_bytes)

    def at(self, round: int) -> Codec:
        return self._first if round <= self._rounds else self._then
