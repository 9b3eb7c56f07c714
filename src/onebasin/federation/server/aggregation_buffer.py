"""What arrives in a round: running means of it, or whole models where each must be looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from onebasin.alignment.repair import Statistics
from onebasin.core.layout import Layout, Tensors
from onebasin.federation.engines.engine import ClientId
from onebasin.methods.server_optimizers import WeightedMean

EXTREME = 1e6
"""A magnitude beyond which a weight, or a statistic, is no honest one."""


@dataclass
class Contribution:
    """A client's whole model. met: it began from the common model of this round, not from its own."""

    client: ClientId
    weight: float
    weights: Tensors
    buffers: Tensors
    met: bool

    @property
    def state(self) -> Tensors:
        return self.weights | self.buffers


@dataclass(frozen=True)
class RawUpdate:
    """What a client sent of its update, as it was sent."""

    client: ClientId
    weight: float
    body: bytes


@dataclass
class Arrivals:
    """What came back in a round: running means, or whole models where the method must look at each.

    remarks: of replies that were changed or left out, why. said: the updates' bytes, where they are to be passed on.
    """

    parameters: Layout
    buffer_layout: Layout
    whole: bool
    update: WeightedMean = field(init=False)
    model: WeightedMean = field(init=False)
    buffers: WeightedMean = field(init=False)
    models: list[Contribution] = field(default_factory=list)
    statistics: dict[ClientId, tuple[float, Statistics]] = field(default_factory=dict)
    remarks: dict[ClientId, str] = field(default_factory=dict)
    said: list[RawUpdate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.update, self.model = WeightedMean(self.parameters), WeightedMean(self.parameters)
        self.buffers = WeightedMean(self.buffer_layout)

    def add(self, one: Contribution, common: Tensors | None) -> None:
        """Take what a client sent: its update to the common weights, or its own model."""
        if not self.whole:
            (self.model if common is None else self.update).add(one.weights, one.weight)
            self.buffers.add(one.buffers, one.weight)
            return
        if common is not None:
            one.weights = {name: common[name] + change for name, change in one.weights.items()}
        self.models.append(one)

    def drop_extreme(self) -> set[ClientId]:
        """Drop whole models, and what was told of neurons, with numbers that no training leads to; return whose."""
        told = [(one.client, one.state) for one in self.models]
        told += [(client, found) for client, (_, found) in self.statistics.items()]
        extreme = {client for client, tensors in told if any(map(_is_extreme, tensors.values()))}
        self.models = [one for one in self.models if one.client not in extreme]
        self.statistics = {client: told for client, told in self.statistics.items() if client not in extreme}
        return extreme

    @property
    def empty(self) -> bool:
        return not self.models and not self.update.weight and not self.model.weight


def _is_extreme(value: Tensor) -> bool:
    return value.is_floating_point() and bool((value.abs() > EXTREME).any())
