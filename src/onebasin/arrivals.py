"""What arrives in a round: running means of it, or whole models where each must be looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from onebasin.alignment.repair import Statistics
from onebasin.combine import WeightedMean
from onebasin.engines.engine import ClientId
from onebasin.wire.layout import Layout, Tensors

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
class Said:
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
    said: list[Said] = field(default_factory=list)

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

    def disturb(self, change: Callable[[Tensors], Tensors]) -> None:
        """Change the sum of the updates."""
        self.update.change(change)

    @property
    def extreme(self) -> bool:
        """Whether a whole model, or what was told of neurons, has numbers that no training leads to."""
        told = [*(one.state for one in self.models), *(found for _, found in self.statistics.values())]
        floats = (value for tensors in told for value in tensors.values() if value.is_floating_point())
        return any(bool((value.abs() > EXTREME).any()) for value in floats)

    @property
    def empty(self) -> bool:
        return not self.models and not self.update.weight and not self.model.weight
