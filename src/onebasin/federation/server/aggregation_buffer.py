"""The replies of a round, aggregated as they arrive: running means, or whole models if the rule needs every one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onebasin.core.clients import ClientId
from onebasin.core.layout import Layout, Tensors
from onebasin.core.state import State
from onebasin.federation.update_forwarding import RawUpdate
from onebasin.federation.weighted_mean import WeightedMean
from onebasin.methods.aggregation_rule import ClientModel
from onebasin.networks.weights import clone

if TYPE_CHECKING:
    from onebasin.alignment.repair import Statistics

EXTREME = 1e6
"""Weights and statistics of working models are smaller than this."""


@dataclass
class AggregationBuffer:
    """The accepted replies of a round.

    parameters, buffer_layout: the layouts of parameters and buffers.
    whole: store whole models in `models` instead of running means.
    update: running mean of the updates to the global model.
    updates: the number of updates in `update`. steps: the weighted sum of their numbers of local steps.
    model: running mean of the clients' own models.
    buffers: running mean of the buffers.
    extras: running means of the hooks' sections.
    models: whole models, if `whole` is set.
    statistics: weight and statistics of each client that sent statistics.
    remarks: by client, on a reply that was left out.
    raw_updates: encoded updates, if they are forwarded.
    """

    parameters: Layout
    buffer_layout: Layout
    whole: bool
    update: WeightedMean = field(init=False)
    model: WeightedMean = field(init=False)
    buffers: WeightedMean = field(init=False)
    extras: dict[str, WeightedMean] = field(default_factory=dict)
    steps: float = 0.0
    updates: int = 0
    models: list[ClientModel] = field(default_factory=list)
    statistics: dict[ClientId, tuple[float, Statistics]] = field(default_factory=dict)
    remarks: dict[ClientId, str] = field(default_factory=dict)
    raw_updates: list[RawUpdate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.update, self.model = WeightedMean(self.parameters), WeightedMean(self.parameters)
        self.buffers = WeightedMean(self.buffer_layout)

    def extra(self, section: str) -> WeightedMean:
        """Return the running mean of a hook's section; its tensors have the layout of the parameters."""
        return self.extras.setdefault(section, WeightedMean(self.parameters))

    def add_update(self, one: ClientModel, common: Tensors) -> None:
        """Add a client's update to the global weights `common`; `one.weights` is that update."""
        if self.whole:
            one.weights = {name: common[name] + change for name, change in one.weights.items()}
            self.models.append(one)
            return
        self.update.add(one.weights, one.weight)
        self.buffers.add(one.buffers, one.weight)
        self.steps += one.weight * one.steps
        self.updates += 1

    def add_model(self, one: ClientModel) -> None:
        """Add a client's own model."""
        if self.whole:
            self.models.append(one)
            return
        self.model.add(one.weights, one.weight)
        self.buffers.add(one.buffers, one.weight)

    def drop_extreme(self) -> set[ClientId]:
        """Drop whole models and statistics with values beyond `EXTREME`; return their clients."""
        received = [(one.client, one.state) for one in self.models]
        received += [(client, found) for client, (_, found) in self.statistics.items()]
        extreme = {client for client, tensors in received if any(map(_is_extreme, tensors.values()))}
        self.models = [one for one in self.models if one.client not in extreme]
        self.statistics = {client: found for client, found in self.statistics.items() if client not in extreme}
        return extreme

    @property
    def empty(self) -> bool:
        return not self.models and not self.update.weight and not self.model.weight

    def to_state(self) -> State:
        """Return the content of the buffer, as tensors and JSON values."""
        slots, weights = {}, {}
        for name, mean in self._means():
            slots[name], weights[name] = clone(mean.sums), mean.weight  # sums are added to in place
        for index, one in enumerate(self.models):
            slots[f"weights/{index}"], slots[f"buffers/{index}"] = one.weights, one.buffers
        slots |= {f"statistics/{client}": found for client, (_, found) in self.statistics.items()}
        raw = {str(one.client): torch.frombuffer(bytearray(one.body), dtype=torch.uint8) for one in self.raw_updates}
        facts = {
            "weights": weights,
            "steps": self.steps,
            "updates": self.updates,
            "models": [[one.client, one.weight, one.joined, one.steps] for one in self.models],
            "statistics": [[client, weight] for client, (weight, _) in self.statistics.items()],
            "remarks": [[client, remark] for client, remark in self.remarks.items()],
            "raw_updates": [[one.client, one.weight] for one in self.raw_updates],
        }
        return State({**slots, "raw updates": raw}, facts)

    def fill(self, state: State) -> None:
        """Restore the content that `to_state` returned; the buffer must be empty."""
        facts: dict[str, Any] = state.facts
        for name in facts["weights"]:
            if name.startswith("extra/"):
                self.extra(name.removeprefix("extra/"))
        for name, mean in self._means():
            mean.sums, mean.weight = clone(state.slots[name]), facts["weights"][name]
        self.steps, self.updates = facts["steps"], facts["updates"]
        for place, (client, weight, joined, steps) in enumerate(facts["models"]):
            weights, buffers = state.slots[f"weights/{place}"], state.slots[f"buffers/{place}"]
            self.models.append(ClientModel(client, weight, weights, buffers, joined, steps))
        self.statistics = {
            client: (weight, state.slots[f"statistics/{client}"]) for client, weight in facts["statistics"]
        }
        self.remarks = dict(facts["remarks"])
        raw = state.slots["raw updates"]
        self.raw_updates = [RawUpdate(c, weight, raw[str(c)].numpy().tobytes()) for c, weight in facts["raw_updates"]]

    def _means(self) -> Iterator[tuple[str, WeightedMean]]:
        yield from (("update", self.update), ("model", self.model), ("buffers", self.buffers))
        yield from ((f"extra/{section}", mean) for section, mean in self.extras.items())


def _is_extreme(value: Tensor) -> bool:
    return value.is_floating_point() and bool((value.abs() > EXTREME).any())
