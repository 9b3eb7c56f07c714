"""A stage of a codec chain: one transform of a vector of values, and its inverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.value_block import Flags, ValueBlock, scatter
from onebasin.wire.entropy import SymbolReader, SymbolWriter

Encode = Callable[[Tensor, ValueBlock], Tensor]
"""Encodes values by the stages that follow; returns the values as the receiver will decode them."""

Decode = Callable[[ValueBlock], Tensor]
"""Decodes the values of a block by the stages that follow."""


class Stage(BaseModel):
    """The settings of a stage, its forward transform and its inverse.

    ``encode(values, block, out, context, rest)`` writes what the receiver needs to invert the stage, passes the
    transformed values to ``rest(values, block)``, and returns the values [n] as the receiver will have them. These
    equal ``decode(block, source, context, rest)`` at the receiver, bit for bit. A final stage does not call ``rest``.
    A file in `codecs/stages/`, or ``package.module:Name``, defines one; its first docstring line is its summary.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = ""
    """What a chain calls it; a class that does not set it is called ``package.module:Name``."""
    main: ClassVar[str | None] = None
    """The setting whose value may follow the stage's name directly: ``top-k 0.01``."""
    is_final: ClassVar[bool] = False
    """Whether it turns values into symbols, so that no stage can follow."""
    keeps_residuals: ClassVar[bool] = False
    """Whether it keeps vectors from message to message; such stages come first in a chain."""
    draws_masks: ClassVar[bool] = False
    """Whether the values are scores and the receiver decodes a mask of zeros and ones."""
    masks_noise: ClassVar[bool] = False
    """Whether the receiver decodes seeded noise under a mask, towards which an update can be trained."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = f"{cls.__module__}:{cls.__qualname__}"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        """Write the values [n]; return them as the receiver decodes them."""
        raise NotImplementedError

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        """Return the values [n] that `encode` returned at the sender; `WireError` for symbols that it cannot write."""
        raise NotImplementedError


class FinalStage(Stage):
    """A stage that turns values into symbols."""

    is_final: ClassVar[bool] = True


class MaskStage(FinalStage):
    """A final stage whose values are scores; the receiver decodes a mask of zeros and ones."""

    draws_masks: ClassVar[bool] = True
    mask_forms: ClassVar[tuple[str, ...]] = ()
    """Of which scores it makes masks: `Parametrization.mask_form`."""


class SubsetStage(Stage):
    """A stage that keeps a subset of the values which both sides compute alike, so that no indices are sent."""

    @property
    def common(self) -> bool:
        """Whether all senders of a round keep the same subset."""
        return True

    def mask(self, block: ValueBlock, context: CodingContext) -> Flags:
        """Return which values are kept, booleans [n]."""
        raise NotImplementedError

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        mask = self.mask(block, context)
        chosen = torch.from_numpy(mask)
        return scatter(rest(values[chosen], block.chosen(mask)), chosen)

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        mask = self.mask(block, context)
        return scatter(rest(block.chosen(mask)), torch.from_numpy(mask))


class ResidualStage(Stage):
    """A stage that changes what the following stages encode, and that the receiver need not invert."""

    keeps_residuals: ClassVar[bool] = True

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        return rest(block)
