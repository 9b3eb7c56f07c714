"""Two codings for one run: the first rounds say more, the others go on from there by another."""

from __future__ import annotations

from onebasin.codecs.codec import Coding
from onebasin.codecs.context import Scene
from onebasin.codecs.value_block import Classes
from onebasin.core.layout import Tensors


class Opening(Coding):
    """Messages of the first `rounds` rounds are of one coding, later ones of another; both bodies say which they are.

    What the first remembers of its last message (error feedback) is passed on if the other has the same stage.
    """

    def __init__(self, rounds: int, first: Coding, then: Coding) -> None:
        self._rounds, self._first, self._then = rounds, first, then
        self.name = f"{first.name} for {rounds} rounds, then {then.name}"
        super().__init__(then.layout)

    def send(self, tensors: Tensors, scene: Scene, classes: Classes | None = None) -> tuple[bytes, Tensors]:
        return self.at(scene.round).send(tensors, scene, classes)

    def receive(self, body: bytes, scene: Scene, classes: Classes | None = None) -> Tensors:
        return self.at(scene.round).receive(body, scene, classes)

    def places(self, scene: Scene) -> Tensors | None:
        return self.at(scene.round).places(scene)

    @property
    def most_bytes(self) -> int:
        return max(self._first.most_bytes, self._then.most_bytes)

    def at(self, round: int) -> Coding:
        return self._first if round <= self._rounds else self._then
