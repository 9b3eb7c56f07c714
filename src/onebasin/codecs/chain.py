"""Chains: stages, one after the other, written as ``error-feedback | top-k 0.01 | sign``.

Encoding goes from left to right, each stage handing on what is left; decoding undoes them from right to left.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import ValidationError
from torch import Tensor

from onebasin.codecs.codec import Codec, flatten, require_finite
from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import Stage, SubsetStage
from onebasin.codecs.value_block import ChangeHistory, ValueBlock
from onebasin.core.layout import Layout, Tensors
from onebasin.core.references import FactoryError
from onebasin.core.registry import Registry
from onebasin.wire.entropy import SymbolReader, SymbolWriter

STAGES: Registry[Stage] = Registry("stage", Stage, "onebasin.codecs.stages")
"""The stages that a chain can name."""


def parse_chain(text: str) -> tuple[Stage, ...]:
    """Return the stages that a text names; `ValueError` saying what is wrong with which.

    ``stage | stage | ...``; a stage is its name, its main setting if it has one, and ``setting=value`` for others.
    """
    stages = tuple(_parse_stage(part.split()) for part in text.split("|"))
    for place, stage in enumerate(stages):
        last = place == len(stages) - 1
        if stage.is_final != last:
            ends = ", ".join(name for name in STAGES.built_in if STAGES.find(name).is_final)
            problem = f"ends with {stage.name!r}; the last is to be one of {ends}"
            raise ValueError(f"{text!r} {problem}" if last else f"{text!r}: nothing can follow {stage.name!r}")
        if stage.keeps_residuals and any(not earlier.keeps_residuals for earlier in stages[:place]):
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
    if name not in STAGES and ":" not in name:
        raise ValueError(f"unknown stage {name!r}; there are {', '.join(STAGES.names)}, and package.module:Name")
    try:
        kind = STAGES.find(name)
    except FactoryError as error:
        raise ValueError(f"stage {error}") from None
    given: dict[str, str] = {}
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals:
            if kind.main is None or word is not settings[0]:
                raise ValueError(f"{name}: {word!r} is no setting; expected {options(kind)}")
            key, value = kind.main, word
        given[key] = value
    try:
        stage: Stage = kind.model_validate(given)
        return stage
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ValueError(f"{name}: {where}={problem['input']!r}: {problem['msg']}; it has {options(kind)}") from None


def shared_subset(stages: Sequence[Stage]) -> SubsetStage | None:
    """Return the stage that says which values are sent, where all clients know that beforehand; None where none does.

    It comes before any that changes what it is given; stages after it may drop some of what it keeps.
    """
    first = next(stage for stage in stages if not stage.keeps_residuals)
    return first if isinstance(first, SubsetStage) and first.common else None


def options(kind: type[Stage]) -> str:
    """Return a stage's settings with their defaults, as text."""
    return ", ".join(f"{key}={field.default}" for key, field in kind.model_fields.items()) or "no settings"


def canonical(stages: Sequence[Stage]) -> str:
    """Return the text of a chain with every setting spelled out."""
    return " | ".join(
        " ".join([_spelled(type(stage)), *(f"{key}={value}" for key, value in stage.model_dump().items())])
        for stage in stages
    )


def _spelled(kind: type[Stage]) -> str:
    """Return the name by which a chain finds a stage's class: its own, else its reference."""
    known = kind.name in STAGES and STAGES.find(kind.name) is kind
    return kind.name if known else f"{kind.__module__}:{kind.__qualname__}"


class Chain(Codec):
    """Writes the tensors of one layout by a chain. A body is 4 bytes of head, then one range-coded stream."""

    def __init__(self, text: str, layout: Layout) -> None:
        self.stages = parse_chain(text)
        self.name = canonical(self.stages)
        super().__init__(layout)

    def send(
        self, tensors: Tensors, context: CodingContext, history: ChangeHistory | None = None
    ) -> tuple[bytes, Tensors]:
        self.layout.check(tensors)
        values = flatten(tensors).float()
        require_finite(values, tensors)
        out = SymbolWriter()
        received = self._encode(0, values, self._block(history), out, context)
        require_finite(received, tensors)
        there = self.layout.split(received)
        return self._head(there, context) + out.finish(), there

    def receive(self, body: bytes, context: CodingContext, history: ChangeHistory | None = None) -> Tensors:
        source = SymbolReader(self._coded(body))
        return self._as_sent(body, self._received(self._decode(0, self._block(history), source, context)), context)

    def sent_mask(self, context: CodingContext) -> Tensors | None:
        stage = shared_subset(self.stages)
        return None if stage is None else self.layout.split(torch.from_numpy(stage.mask(self._block(None), context)))

    @property
    def most_bytes(self) -> int:  # 32 bits a value, a rotated one too; a count for each symbol of each tensor
        return 64 + 8 * self.layout.numel + 2048 * (1 + len(self.layout))

    def _encode(
        self, place: int, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext
    ) -> Tensor:
        def rest(inner: Tensor, form: ValueBlock) -> Tensor:
            return self._encode(place + 1, inner, form, out, context)

        return self.stages[place].encode(values, block, out, context, rest)

    def _decode(self, place: int, block: ValueBlock, source: SymbolReader, context: CodingContext) -> Tensor:
        return self.stages[place].decode(
            block, source, context, lambda inner: self._decode(place + 1, inner, source, context)
        )

    def _block(self, history: ChangeHistory | None) -> ValueBlock:
        return ValueBlock(tuple(entry.shape for entry in self.layout.entries), history)
