"""A codec for models of two kinds of tensors, such as scores and ordinary weights, each with a codec of its own."""

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
    """Encodes some tensors of a layout by one codec and the others by another. Neither codec may keep residuals.

    is_first: returns whether the tensor of a name belongs to the first codec. first, second: make the codecs.
    A body is a head of 4 bytes, the length of the first codec's body (LEB128), that body, and the second codec's body.
    """

    def __init__(
        self,
        layout: Layout,
        is_first: Callable[[str], bool],
        first: Callable[[Layout], Codec],
        second: Callable[[Layout], Codec],
    ) -> None:
        entries = [[e for e in layout.entries if is_first(e.name) is wanted] for wanted in (True, False)]
        self._codecs = (first(Layout(tuple(entries[0]))), second(Layout(tuple(entries[1]))))
        masks = [torch.full((e.numel,), is_first(e.name)) for e in layout.entries]
        first_mask = torch.cat(masks) if masks else torch.zeros(0, dtype=torch.bool)
        self._masks = (first_mask, ~first_mask)
        self.name = " + ".join(codec.name for codec in self._codecs)
        super().__init__(layout)

    def send(
        self, tensors: Tensors, context: CodingContext, history: ChangeHistory | None = None
    ) -> tuple[bytes, Tensors]:
        self.layout.check(tensors)
        bodies: list[bytes] = []
        received: Tensors = {}
        for index, codec in enumerate(self._codecs):
            selected = {name: tensors[name] for name in codec.layout.names}
            body, decoded = codec.send(selected, self._context(context, index), self._history(history, index))
            bodies.append(body)
            received |= decoded
        decoded = self._in_order(received)
        return self._head(decoded, context) + write_number(len(bodies[0])) + b"".join(bodies), decoded

    def receive(self, body: bytes, context: CodingContext, history: ChangeHistory | None = None) -> Tensors:
        coded = self._without_head(body)
        size, offset = read_number(coded, 0)
        if offset + size > len(coded):
            raise WireError(f"the first part of {size:,} bytes goes beyond the body's end")
        bodies = (bytes(coded[offset : offset + size]), bytes(coded[offset + size :]))
        received: Tensors = {}
        for index, codec in enumerate(self._codecs):
            received |= codec.receive(bodies[index], self._context(context, index), self._history(history, index))
        return self._checked(body, self._in_order(received), context)

    @property
    def most_bytes(self) -> int:
        return 16 + sum(codec.most_bytes for codec in self._codecs)

    def _context(self, context: CodingContext, index: int) -> CodingContext:
        """Return the context of one of the two bodies, without residuals."""
        known_model = None if context.known_model is None else context.known_model[self._masks[index]]
        return replace(context, residuals={}, next_residuals={}, known_model=known_model, base_model=None)

    def _history(self, history: ChangeHistory | None, index: int) -> ChangeHistory | None:
        return None if history is None else history[self._masks[index].numpy()]

    def _in_order(self, tensors: Tensors) -> Tensors:
        return {name: tensors[name] for name in self.layout.names}
