"""A stage of a chain: something done to values before they become symbols, and undone after."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from onebasin.codecs.context import Scene
from onebasin.codecs.value_block import Block
from onebasin.wire.entropy import SymbolReader, SymbolWriter

Encode = Callable[[Tensor, Block], Tensor]
"""Codes values by the stages that follow; returns them as the receiver will have them."""

Decode = Callable[[Block], Tensor]
"""Reads, by the stages that follow, the values of a block."""


class Stage(BaseModel):
    """A stage, with its settings.

    ``encode(values, block, out, scene, rest)`` writes what is needed to undo the stage, hands on what is left by
    ``rest(values, block)``, and returns the values as the receiver will have them: what
    ``decode(block, source, scene, rest)`` returns there, bit for bit. A stage that ends a chain calls no rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    main: ClassVar[str | None] = None
    """The setting that may stand without its name, right after the stage's."""
    ends: ClassVar[bool] = False
    """Whether it makes symbols of values, so that nothing can follow."""
    wraps: ClassVar[bool] = False
    """Whether it remembers something from message to message; such stages come first."""

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        raise NotImplementedError

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        raise NotImplementedError
