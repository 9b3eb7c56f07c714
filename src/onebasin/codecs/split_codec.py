"""Two codings for one model: its scores by one, in bits, and what is trained beside them by another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from onebasin.codecs.codec import Coding
from onebasin.codecs.context import Scene
from onebasin.codecs.value_block import Classes
from onebasin.core.layout import Layout, Tensors
from onebasin.wire.error import WireError
from onebasin.wire.numbers import read_number, write_number


class Parted(Coding):
    """A body is 4 bytes of head, the number of bytes of the first coding's body, that body, and the second's."""

    def __init__(
        self,
        layout: Layout,
        is_first: Callable[[str], bool],
        first: Callable[[Layout], Coding],
        second: Callable[[Layout], Coding],
    ) -> None:
        entries = [[e for e in layout.entries if is_first(e.name) is wanted] for wanted in (True, False)]
        self._parts = (first(Layout(tuple(entries[0]))), second(Layout(tuple(entries[1]))))
        belongs = [torch.full((e.numel,), is_first(e.name)) for e in layout.entries]
        places = torch.cat(belongs) if belongs else torch.zeros(0, dtype=torch.bool)
        self._places = (places, ~places)
        self.name = " + ".join(part.name for part in self._parts)
        super().__init__(layout)

    def send(self, tensors: Tensors, scene: Scene, classes: Classes | None = None) -> tuple[bytes, Tensors]:
        self.layout.check(tensors)
        bodies: list[bytes] = []
        received: Tensors = {}
        for number, part in enumerate(self._parts):
            own = {name: tensors[name] for name in part.layout.names}
            body, there = part.send(own, self._scene(scene, number), self._classes(classes, number))
            bodies.append(body)
            received |= there
        there = self._in_order(received)
        return self._head(there, scene) + write_number(len(bodies[0])) + b"".join(bodies), there

    def receive(self, body: bytes, scene: Scene, classes: Classes | None = None) -> Tensors:
        coded = self._coded(body)
        size, at = read_number(coded, 0)
        if at + size > len(coded):
            raise WireError(f"the first part of {size:,} bytes goes beyond the body's end")
        bodies = (bytes(coded[at : at + size]), bytes(coded[at + size :]))
        received: Tensors = {}
        for number, part in enumerate(self._parts):
            received |= part.receive(bodies[number], self._scene(scene, number), self._classes(classes, number))
        return self._as_sent(body, self._in_order(received), scene)

    @property
    def most_bytes(self) -> int:
        return 16 + sum(part.most_bytes for part in self._parts)

    def _scene(self, scene: Scene, number: int) -> Scene:
        """What both sides know, of one part alone; neither part may remember anything."""
        reference = None if scene.reference is None else scene.reference[self._places[number]]
        return replace(scene, memory={}, kept={}, reference=reference, held=None)

    def _classes(self, classes: Classes | None, number: int) -> Classes | None:
        return None if classes is None else classes[self._places[number].numpy()]

    def _in_order(self, tensors: Tensors) -> Tensors:
        return {name: tensors[name] for name in self.layout.names}
