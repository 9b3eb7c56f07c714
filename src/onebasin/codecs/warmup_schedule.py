"""A warm-up codec schedule: one codec in the first rounds, another in all later ones."""

from __future__ import annotations

from onebasin.codecs.codec import Codec
from onebasin.codecs.context import CodingContext
from onebasin.codecs.value_block import ChangeHistory
from onebasin.core.layout import Tensors


class WarmupSchedule(Codec):
    """Encodes messages of the first `rounds` rounds by the codec `first`, and later ones by `then`.

    A body's fingerprint is that of the codec that encoded it. Residuals of the last warm-up round remain if `then` has
    the same stage.
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
