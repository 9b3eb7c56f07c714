"""Two codings for one model: its scores by one, in bits, and what is trained beside them by another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from onebasin.codecs.codec import Codec
from onebasin.codecs.context import CodingContext
from onebasin.codecs.value_block import ChangeHistory
from onebasin.core.layout import Layout, Tensors
from onebasin.wire.error import WireError
from onebasin.wire.numbers import read_number, write_number


class SplitCodec(Codec):
    """A body is 4 bytes of head, the number of bytes of the first coding's body, that body, and the second's."""

    def __init__(
        self,
        layout: Layout,
        is_first: Callable[[str], bool],
        first: Callable[[Layout], Codec],
        second: Callable[[Layout], Codec],
    ) -> None:
        entries = [[e for e in layout.entries if is_first(e.name) is wanted] for wanted in (True, False)]
        self._parts = (first(Layout(tuple(entries[0]))), second(Layout(tuple(entries[1]))))
        belongs = [torch.full((e.numel,), is_first(e.name)) for e in layout.entries]
        places = torch.cat(belongs) if belongs else torch.zeros(0, dtype=torch.bool)
        self._places = (places, ~places)
        self.name = " + ".join(part.name for part in self._parts)
        super().__init__(layout)

    def send(
        self, tensors: Tensors, context: CodingContext, history: ChangeHistory | None = None
    ) -> tuple[bytes, Tensors]:
        self.layout.check(tensors)
        bodies: list[bytes] = []
        received: Tensors = {}
        for number, part in enumerate(self._parts):
            own = {name: tensors[name] for name in part.layout.names}
            body, there = part.send(own, self._scene(context, number), self._classes(history, number))
            bodies.append(body)
            received |= there
        there = self._in_order(received)
        return self._head(there, context) + write_number(len(bodies[0])) + b"".join(bodies), there

    def receive(self, body: bytes, context: CodingContext, history: ChangeHistory | None = None) -> Tensors:
        coded = self._coded(body)
        size, at = read_number(coded, 0)
        if at + size > len(coded):
            raise WireError(f"the first part of {size:,} bytes goes beyond the body's end")
        bodies = (bytes(coded[at : at + size]), bytes(coded[at + size :]))
        received: Tensors = {}
        for number, part in enumerate(self._parts):
            received |= part.receive(bodies[number], self._scene(context, number), self._classes(history, number))
        return self._as_sent(body, self._in_order(received), context)

    @property
    def most_bytes(self) -> int:
        return 16 + sum(part.most_bytes for part in self._parts)

    def _scene(self, context: CodingContext, number: int) -> CodingContext:
        """What both sides know, of one part alone; neither part may remember anything."""
        reference = None if context.known_model is None else context.known_model[self._places[number]]
        return replace(context, residuals={}, next_residuals={}, known_model=reference, base_model=None)

    def _classes(self, history: ChangeHistory | None, number: int) -> ChangeHistory | None:
        return None if history is None else history[self._places[number].numpy()]

    def _in_order(self, tensors: Tensors) -> Tensors:
        return {name: tensors[name] for name in self.layout.names}
