"""A stage of a codec chain: a transform of a vector of values, and its inverse at the receiver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.value_block import Flags, ValueBlock, scatter
from onebasin.wire.entropy import SymbolReader, SymbolWriter

EncodeNext = Callable[[Tensor, ValueBlock], Tensor]
"""Encodes values [n] of a block by the following stages; returns the values [n] that the receiver will decode."""

DecodeNext = Callable[[ValueBlock], Tensor]
"""Decodes and returns the values [n] of a block by the following stages."""


class Stage(BaseModel):
    """The settings of a stage, its transform and its inverse.

    ``encode(values, block, out, context, encode_next)`` writes what the receiver needs to invert the stage, passes the
    transformed values and their block to ``encode_next``, inverts the result, and returns the values [n] as the
    receiver will decode them. ``decode(block, source, context, decode_next)`` returns the same values at the receiver,
    bit for bit. A final stage writes symbols and does not call ``encode_next`` or ``decode_next``. A file in
    `codecs/stages/`, or ``package.module:Name``, defines one stage. The first line of its docstring is its summary in
    ``onebasin list codecs``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = ""
    """The name in a chain; a class that does not set it has the name ``package.module:Name``."""
    main: ClassVar[str | None] = None
    """The setting whose value may follow the name without its key: ``top-k 0.01``."""
    is_final: ClassVar[bool] = False
    """Whether it turns values into symbols, so that no stage can follow."""
    keeps_residuals: ClassVar[bool] = False
    """Whether it keeps vectors from one message to the next; such stages are the first ones of a chain."""
    masks_noise: ClassVar[bool] = False
    """Whether the receiver decodes seeded noise under a mask, towards which an update can be trained."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = f"{cls.__module__}:{cls.__qualname__}"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        """Write the values [n], and return the values [n] that the receiver will decode."""
        raise NotImplementedError

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        """Return the values [n] that `encode` returned at the sender.

        Errors: `WireError` if the stream contains symbols that `encode` does not write.
        """
        raise NotImplementedError


class FinalStage(Stage):
    """A stage that turns values into symbols."""

    is_final: ClassVar[bool] = True


class MaskStage(FinalStage):
    """A final stage whose values are scores, from which the receiver decodes a mask of zeros and ones."""

    mask_forms: ClassVar[tuple[str, ...]] = ()
    """The forms of scores from which it makes masks, see `Parametrization.mask_form`."""


class SubsetStage(Stage):
    """A stage that sends a subset of the values which both sides compute, so that no indices are sent."""

    @property
    def common(self) -> bool:
        """Return whether all senders of a round send the same subset."""
        return True

    def mask(self, block: ValueBlock, context: CodingContext) -> Flags:
        """Return which values are sent, booleans [n]."""
        raise NotImplementedError

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        flags = self.mask(block, context)
        mask = torch.from_numpy(flags)
        return scatter(encode_next(values[mask], block.select(flags)), mask)

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        flags = self.mask(block, context)
        return scatter(decode_next(block.select(flags)), torch.from_numpy(flags))


class ResidualStage(Stage):
    """A stage that adds vectors kept from earlier messages to the values; the receiver has nothing to invert."""

    keeps_residuals: ClassVar[bool] = True

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        return decode_next(block)
