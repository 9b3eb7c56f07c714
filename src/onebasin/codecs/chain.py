"""Chains: stages, one after the other, written as ``error-feedback | top-k 0.01 | sign``.

Encoding applies the stages from left to right; decoding inverts them from right to left.
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
    """Return the stages that a text describes: ``stage | stage | ...``.

    A stage is written as its name, the value of its main setting if it has one, and ``setting=value`` for others.
    Errors: `ValueError` if a stage or a setting is wrong, or the stages do not make a chain; the message names it.
    """
    stages = tuple(_parse_stage(part.split()) for part in text.split("|"))
    for index, stage in enumerate(stages):
        is_last = index == len(stages) - 1
        if stage.is_final != is_last:
            final_names = ", ".join(name for name in STAGES.built_in if STAGES.find(name).is_final)
            problem = f"ends with {stage.name!r}; the last is to be one of {final_names}"
            raise ValueError(f"{text!r} {problem}" if is_last else f"{text!r}: nothing can follow {stage.name!r}")
        if stage.keeps_residuals and any(not earlier.keeps_residuals for earlier in stages[:index]):
            raise ValueError(f"{text!r}: {stage.name!r} remembers all values and comes before stages that drop some")
    names = [stage.name for stage in stages]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated:
        raise ValueError(f"{text!r}: {repeated!r} is there twice")
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
    values: dict[str, str] = {}
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals:
            if kind.main is None or word is not settings[0]:
                raise ValueError(f"{name}: {word!r} is no setting; expected {options(kind)}")
            key, value = kind.main, word
        if key in values:
            raise ValueError(f"{name}: {key} is given twice, as {values[key]!r} and {value!r}")
        values[key] = value
    try:
        stage: Stage = kind.model_validate(values)
        return stage
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise ValueError(f"{name}: {field}={problem['input']!r}: {problem['msg']}; it has {options(kind)}") from None


def shared_subset(stages: Sequence[Stage]) -> SubsetStage | None:
    """Return the stage that selects the values to send, if all clients know the selection beforehand; otherwise None.

    That is the first stage after those that keep residuals. Later stages may drop some of the values that it selects.
    """
    first = next(stage for stage in stages if not stage.keeps_residuals)
    return first if isinstance(first, SubsetStage) and first.common else None


def options(kind: type[Stage]) -> str:
    """Return a stage's settings with their defaults, as text."""
    return ", ".join(f"{key}={field.default}" for key, field in kind.model_fields.items()) or "no settings"


def canonical(stages: Sequence[Stage]) -> str:
    """Return the text of a chain with all settings, those with their default value included."""
    return " | ".join(
        " ".join([_name_in_chain(type(stage)), *(f"{key}={value}" for key, value in stage.model_dump().items())])
        for stage in stages
    )


def _name_in_chain(kind: type[Stage]) -> str:
    """Return the name by which `parse_chain` finds a stage: its own name if it is registered, or its reference."""
    is_registered = kind.name in STAGES and STAGES.find(kind.name) is kind
    return kind.name if is_registered else f"{kind.__module__}:{kind.__qualname__}"


class Chain(Codec):
    """Encodes the tensors of one layout by a chain. A body is a head of 4 bytes and one range-coded stream."""

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
        decoded = self.layout.split(received)
        return self._head(decoded, context) + out.finish(), decoded

    def receive(self, body: bytes, context: CodingContext, history: ChangeHistory | None = None) -> Tensors:
        source = SymbolReader(self._without_head(body))
        decoded = self._finite_tensors(self._decode(0, self._block(history), source, context))
        return self._checked(body, decoded, context)

    def sent_mask(self, context: CodingContext) -> Tensors | None:
        stage = shared_subset(self.stages)
        return None if stage is None else self.layout.split(torch.from_numpy(stage.mask(self._block(None), context)))

    @property
    def most_bytes(self) -> int:
        # Ample for 4 bytes and a flag per value, padding of up to 255 values by a rotation, scales and symbol counts.
        return 64 + 8 * self.layout.numel + 2048 * (1 + len(self.layout))

    def _encode(
        self, index: int, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext
    ) -> Tensor:
        """Encode values [n] by the stages from `index` on."""

        def encode_next(values: Tensor, block: ValueBlock) -> Tensor:
            return self._encode(index + 1, values, block, out, context)

        return self.stages[index].encode(values, block, out, context, encode_next)

    def _decode(self, index: int, block: ValueBlock, source: SymbolReader, context: CodingContext) -> Tensor:
        """Decode the values [n] of a block by the stages from `index` on."""

        def decode_next(block: ValueBlock) -> Tensor:
            return self._decode(index + 1, block, source, context)

        return self.stages[index].decode(block, source, context, decode_next)

    def _block(self, history: ChangeHistory | None) -> ValueBlock:
        return ValueBlock(tuple(entry.shape for entry in self.layout.entries), history)
