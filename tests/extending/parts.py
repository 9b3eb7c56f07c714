"""Parts from outside that are wrong, or that do what no example of docs/extending.md does."""

from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import DecodeNext, EncodeNext, Stage
from onebasin.codecs.stages.fp32 import Float32
from onebasin.codecs.value_block import ValueBlock
from onebasin.core.layout import Tensors
from onebasin.core.state import State
from onebasin.federation.hooks.hook import Hook
from onebasin.federation.server.aggregation_buffer import AggregationBuffer
from onebasin.learning.objective import Objective
from onebasin.methods.aggregation.average import Average
from onebasin.methods.aggregation_rule import AggregationRule, Mean, Slots, added, each
from onebasin.wire.entropy import SymbolReader, SymbolWriter
from onebasin.wire.message import Kind, Section


class PerStep(AggregationRule):
    """Divides by the number of local steps, and sees each model."""

    sees_each_model: ClassVar[bool] = True

    def prepare(self, update: Tensors, steps: int) -> Tensors:
        return each(update, lambda name: update[name] / steps)

    def step(self, slots: Slots, mean: Mean) -> Slots:
        return added(slots, mean.update, mean.steps * mean.share)


class Greedy(AggregationRule):
    """Remembers in a slot that is the server's."""

    def memory(self, weights: Tensors) -> Slots:
        return {"control": weights}


class Halved(Stage):
    """Hands on half of each value, and is no end of a chain."""

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: EncodeNext
    ) -> Tensor:
        return 2 * rest(values / 2, block)


class Crooked(Float32):
    """Decodes to other values than it says when it encodes."""

    name: ClassVar[str] = "crooked"

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: DecodeNext) -> Tensor:
        return super().decode(block, source, context, rest) + 1


class Lengths(Hook):
    """Has each client report its update, in a section of its own; the server keeps the mean."""

    section: ClassVar[str] = "extra"

    def decode(self, body: bytes) -> Tensors:
        return self.context.protocol.fp32.decode(body)

    def request_sections(self, state: State) -> Iterator[Section]:
        yield Section(Kind.CONTROL, self.section, b"?")

    def reply_sections(self, work: Any, trained: Any, state: State, slots: dict[str, Tensors]) -> Iterator[Section]:
        update = {name: weight - work.known_model[name] for name, weight in trained.weights.items()}
        yield Section(Kind.UPDATE, self.section, self.context.protocol.fp32.encode(update))

    def after_aggregation(self, slots: dict[str, Tensors], buffer: AggregationBuffer) -> None:
        slots["told"] = buffer.extra(self.section).result()


class Telling(Average):
    """An average whose clients tell their updates twice."""

    exchange: ClassVar[str] = "tests.extending.parts:Lengths"
    kind: str = ""


class Literally(Average):
    """Inherits the one name that a built-in class has."""


class Nowhere(Objective):
    exchange: ClassVar[str] = "tests.extending.parts:Gone"


class Mistaken(Objective):
    exchange: ClassVar[str] = "tests.extending.parts:PerStep"


class Named(Hook):
    section: ClassVar[str] = "temperature"


class Misnamed(Objective):
    exchange: ClassVar[str] = "tests.extending.parts:Named"


class Rival(Objective):
    exchange: ClassVar[str] = "tests.extending.parts:Lengths"


def raising(dataset: Any, clients: int, rng: Any) -> Any:
    """A partition that fails."""
    raise KeyError("no such column")


def uneven(dataset: Any, clients: int, rng: Any) -> Any:
    """A partition that leaves a client without examples."""
    return [range(10), *[[]] * (clients - 1)]


nesterov = partial(torch.optim.SGD, nesterov=True)
