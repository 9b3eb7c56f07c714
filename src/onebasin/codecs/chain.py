"""Chains: stages, one after the other, written as ``error-feedback | top-k 0.01 | sign``.

Encoding goes from left to right, each stage handing on what is left; decoding undoes them from right to left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from pydantic import ValidationError
from torch import Tensor

from onebasin.codecs.codec import Coding, flatten, require_finite
from onebasin.codecs.context import Scene
from onebasin.codecs.stage import Stage
from onebasin.codecs.stages.feedback import ErrorFeedback, MomentumCorrection
from onebasin.codecs.stages.low_rank import LowRank
from onebasin.codecs.stages.masked_noise import MaskedNoise
from onebasin.codecs.stages.masks import Mask, Threshold
from onebasin.codecs.stages.quantisers import Eden, Float16, Float32, Lloyd, Qsgd, Sign, Ternary, Uniform
from onebasin.codecs.stages.random_coding import RandomCoding
from onebasin.codecs.stages.rotation import Hadamard
from onebasin.codecs.stages.selection import Fragment, Known, RandomK, Small, TopK
from onebasin.codecs.value_block import Block, Classes
from onebasin.core.layout import Layout, Tensors
from onebasin.wire.entropy import SymbolReader, SymbolWriter

STAGES: Mapping[str, type[Stage]] = MappingProxyType(
    {
        stage.name: stage
        for stage in (
            ErrorFeedback,
            MomentumCorrection,
            Small,
            Fragment,
            TopK,
            RandomK,
            LowRank,
            Hadamard,
            Sign,
            Ternary,
            Uniform,
            Qsgd,
            Eden,
            Lloyd,
            Float16,
            Float32,
            Mask,
            Threshold,
            RandomCoding,
            MaskedNoise,
        )
    }
)


def parse_chain(text: str) -> tuple[Stage, ...]:
    """Return the stages that a text names; `ValueError` saying what is wrong with which.

    ``stage | stage | ...``; a stage is its name, its main setting if it has one, and ``setting=value`` for others.
    """
    stages = tuple(_parse_stage(part.split()) for part in text.split("|"))
    for place, stage in enumerate(stages):
        last = place == len(stages) - 1
        if stage.ends != last:
            ends = ", ".join(name for name, kind in STAGES.items() if kind.ends)
            problem = f"ends with {stage.name!r}; the last is to be one of {ends}"
            raise ValueError(f"{text!r} {problem}" if last else f"{text!r}: nothing can follow {stage.name!r}")
        if stage.wraps and any(not earlier.wraps for earlier in stages[:place]):
            raise ValueError(f"{text!r}: {stage.name!r} remembers all values and comes before stages that drop some")
    names = [stage.name for stage in stages]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"{text!r}: {twice!r} is there twice")
    return stages


def _parse_stage(words: Sequence[str]) -> Stage:
    if not words:
        raise ValueError("a stage is missing beside '|'")
    name, *settings = words
    if name not in STAGES:
        raise ValueError(f"unknown stage {name!r}; there are {', '.join(STAGES)}")
    kind = STAGES[name]
    given: dict[str, str] = {}
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals:
            if kind.main is None or word is not settings[0]:
                raise ValueError(f"{name}: {word!r} is no setting; expected {options(kind)}")
            key, value = kind.main, word
        given[key] = value
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ValueError(f"{name}: {where}={problem['input']!r}: {problem['msg']}; it has {options(kind)}") from None


def known_places(stages: Sequence[Stage]) -> Known | None:
    """Return the stage that says which values are sent, where all clients know that beforehand; None where none does.

    It comes before any that changes what it is given; stages after it may drop some of what it keeps.
    """
    first = next(stage for stage in stages if not stage.wraps)
    return first if isinstance(first, Known) and first.common else None


def options(kind: type[Stage]) -> str:
    """Return a stage's settings with their defaults, as text."""
    return ", ".join(f"{key}={field.default}" for key, field in kind.model_fields.items()) or "no settings"


def canonical(stages: Sequence[Stage]) -> str:
    """Return the text of a chain with every setting spelled out."""
    return " | ".join(
        " ".join([stage.name, *(f"{key}={value}" for key, value in stage.model_dump().items())]) for stage in stages
    )


class Chain(Coding):
    """Writes the tensors of one layout by a chain. A body is 4 bytes of head, then one range-coded stream."""

    def __init__(self, text: str, layout: Layout) -> None:
        self.stages = parse_chain(text)
        self.name = canonical(self.stages)
        super().__init__(layout)

    def send(self, tensors: Tensors, scene: Scene, classes: Classes | None = None) -> tuple[bytes, Tensors]:
        self.layout.check(tensors)
        values = flatten(tensors).float()
        require_finite(values, tensors)
        out = SymbolWriter()
        received = self._encode(0, values, self._block(classes), out, scene)
        require_finite(received, tensors)
        there = self.layout.split(received)
        return self._head(there, scene) + out.finish(), there

    def receive(self, body: bytes, scene: Scene, classes: Classes | None = None) -> Tensors:
        source = SymbolReader(self._coded(body))
        return self._as_sent(body, self._received(self._decode(0, self._block(classes), source, scene)), scene)

    def places(self, scene: Scene) -> Tensors | None:
        stage = known_places(self.stages)
        return None if stage is None else self.layout.split(torch.from_numpy(stage.mask(self._block(None), scene)))

    @property
    def most_bytes(self) -> int:  # 32 bits a value, a rotated one too; a count for each symbol of each tensor
        return 64 + 8 * self.layout.numel + 2048 * (1 + len(self.layout))

    def _encode(self, place: int, values: Tensor, block: Block, out: SymbolWriter, scene: Scene) -> Tensor:
        def rest(inner: Tensor, form: Block) -> Tensor:
            return self._encode(place + 1, inner, form, out, scene)

        return self.stages[place].encode(values, block, out, scene, rest)

    def _decode(self, place: int, block: Block, source: SymbolReader, scene: Scene) -> Tensor:
        return self.stages[place].decode(
            block, source, scene, lambda inner: self._decode(place + 1, inner, source, scene)
        )

    def _block(self, classes: Classes | None) -> Block:
        return Block(tuple(entry.shape for entry in self.layout.entries), classes)
