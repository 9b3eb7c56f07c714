"""Assembly: from what the clients of a round send to the next common model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from onebasin.alignment.choosing import choose
from onebasin.alignment.cycle_consistent import refine
from onebasin.alignment.distillation import distil
from onebasin.alignment.experts import consult
from onebasin.alignment.least_squares import least_squares
from onebasin.alignment.matching import match
from onebasin.alignment.merging import align, average, shares
from onebasin.alignment.repair import Statistics, restore, statistics
from onebasin.alignment.responses import Responses
from onebasin.alignment.running import forward
from onebasin.alignment.sketches import Sketch
from onebasin.choices import LeastSquares, Method
from onebasin.combine import WeightedMean, apply_update
from onebasin.engines.engine import ClientId
from onebasin.framing import Framing
from onebasin.symmetry.spec import Perms, PermutationSpec
from onebasin.wire.layout import Layout, Tensors

Slots = dict[str, Tensors]

AGREEMENTS = (0.0, 2.0, 8.0)
"""The powers among which combine.agreement="auto" chooses."""


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


@dataclass
class Arrivals:
    """What came back in a round: running means, or whole models where the method must look at each."""

    parameters: Layout
    buffer_layout: Layout
    whole: bool
    update: WeightedMean = field(init=False)
    model: WeightedMean = field(init=False)
    buffers: WeightedMean = field(init=False)
    models: list[Contribution] = field(default_factory=list)
    statistics: dict[ClientId, tuple[float, Statistics]] = field(default_factory=dict)

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

    @property
    def empty(self) -> bool:
        return not self.models and not self.update.weight and not self.model.weight


class Assembly:
    """The server's side of alignment: finds frames, merges, repairs. It keeps no state of its own."""

    def __init__(self, method: Method, framing: Framing, workspace: nn.Module, seed: int) -> None:
        self._method, self._framing, self._model, self._seed = method, framing, workspace, seed

    @property
    def whole(self) -> bool:
        """Whether the models of a round must be looked at one by one, rather than summed as they come."""
        aligned_here = self._method.frame in ("weights", "activations")
        return aligned_here or isinstance(self._method.combine, LeastSquares) or self._method.repair != "none"

    def frames_by_signature(
        self, signatures: Mapping[ClientId, Tensors], weights: Mapping[ClientId, float], common: Tensors | None
    ) -> dict[ClientId, Perms]:
        """Return each client's way into the common order: that of the common model, where there is one."""
        responses = self._framing.responses
        clients = list(signatures)
        if common is not None:
            reference = responses.of(common)
            return {client: match(responses.spec, reference, signatures[client], self._seed) for client in clients}
        if len(clients) < 2:
            return {client: self._framing.spec.identity() for client in clients}
        return self._common_order(responses.spec, signatures, weights)

    def next_model(
        self, arrivals: Arrivals, slots: Slots, sketches: Mapping[ClientId, Sketch], frames: dict[ClientId, Perms]
    ) -> Slots:
        """Return the slots with the next common `weights` and `buffers`.

        frames: of the clients that were permuted on their own side; those found here are added to it.
        """
        if not self.whole:
            return self._from_means(arrivals, slots)
        return self._from_models(arrivals, slots, sketches, frames)

    def _from_means(self, arrivals: Arrivals, slots: Slots) -> Slots:
        after = dict(slots)
        if arrivals.update.weight:
            after = apply_update(self._method.combine, after, arrivals.update.result())
        if arrivals.model.weight:
            arrived, weight = arrivals.model.result(), arrivals.model.weight
            if arrivals.update.weight:
                arrived = _blend(after["weights"], arrivals.update.weight, arrived, weight)
            after["weights"] = arrived
        after["buffers"] = arrivals.buffers.result() if len(arrivals.buffer_layout) else {}
        return after

    def _from_models(
        self, arrivals: Arrivals, slots: Slots, sketches: Mapping[ClientId, Sketch], frames: dict[ClientId, Perms]
    ) -> Slots:
        common = slots["weights"] | slots["buffers"] if "weights" in slots else None
        models = arrivals.models
        fresh = any(not one.met for one in models)
        if self._method.frame in ("weights", "activations") and (fresh or self._method.alignment.every_round):
            found = self._frames(models, common)
            frames |= found
            models = [
                Contribution(
                    one.client,
                    one.weight,
                    *self._split(self._framing.spec.apply(one.state, found[one.client])),
                    one.met,
                )
                if one.client in found
                else one
                for one in models
            ]
        combine = self._method.combine
        states, weights = [one.state for one in models], [one.weight for one in models]
        after = dict(slots)
        if isinstance(combine, LeastSquares):
            merged = self._least_squares(combine, models, sketches)
        elif fresh or common is None:
            merged = average(states, weights)
        else:
            mean = average(states, weights)
            change = {name: mean[name] - slots["weights"][name] for name in slots["weights"]}
            after = apply_update(combine, after, change)
            merged = after["weights"] | {name: mean[name] for name in slots["buffers"]}
        if self._method.repair != "none" and (fresh or self._method.alignment.every_round):
            merged = self._repaired(merged, models, arrivals, sketches, frames)
        after["weights"], after["buffers"] = self._split(merged)
        return after

    def _frames(self, models: list[Contribution], common: Tensors | None) -> dict[ClientId, Perms]:
        """Weights or activations: the way of each model into the common order; of those that met, as settings ask."""
        spec, seed = self._framing.spec, self._seed
        tensors = {one.client: one.state for one in models}
        reference = common
        if self._method.frame == "activations":
            responses: Responses = self._framing.responses
            spec = responses.spec
            tensors = {client: responses.of(state) for client, state in tensors.items()}
            reference = None if common is None else responses.of(common)
        moving = [one for one in models if not one.met or self._method.alignment.every_round]
        if reference is None:
            if len(moving) < 2:
                return {one.client: spec.identity() for one in moving}
            chosen = {one.client: tensors[one.client] for one in moving}
            return self._common_order(spec, chosen, {one.client: one.weight for one in moving})
        return {one.client: match(spec, reference, tensors[one.client], seed) for one in moving}

    def _common_order(
        self, spec: PermutationSpec, tensors: Mapping[ClientId, Tensors], weights: Mapping[ClientId, float]
    ) -> dict[ClientId, Perms]:
        """The way of each of several models into an order in which all are near to each other."""
        clients, models = list(tensors), list(tensors.values())
        perms = align(spec, models, [weights[client] for client in clients], self._seed)
        if self._method.alignment.refine:
            perms = refine(spec, models, perms).perms
        return dict(zip(clients, perms, strict=True))

    def _least_squares(
        self, combine: LeastSquares, models: list[Contribution], sketches: Mapping[ClientId, Sketch]
    ) -> Tensors:
        states, weights = [one.state for one in models], [one.weight for one in models]
        inputs = self._framing.probes({one.client: sketches[one.client] for one in models} if sketches else {})
        outputs = [forward(self._model, state, inputs) for state in states]
        if combine.targets == "experts":
            teach = consult(outputs, [sketches[one.client] for one in models], inputs)
        else:
            teach = torch.stack(
                [out * part for out, part in zip(outputs, shares(len(states), weights), strict=True)]
            ).sum(0)
        anchor = max(range(len(models)), key=lambda index: (weights[index], -index))

        def fitted(agreement: float, some: slice) -> Tensors:
            return least_squares(
                self._model,
                states,
                inputs[some],
                weights,
                ridge=combine.ridge,
                anchor=anchor if agreement else None,
                agreement=agreement,
                teach=teach[some] if combine.targets == "experts" else None,
                seed=self._seed,
            )

        strength = combine.agreement
        if strength == "auto":
            candidates = {f"{power:g}": fitted(power, slice(0, None, 2)) for power in AGREEMENTS}
            strength = float(choose(self._model, candidates, inputs[1::2], teach[1::2])[0])
        merged = fitted(strength, slice(None))
        if combine.distil:
            merged = distil(self._model, merged, inputs, teach, combine.distil, self._seed)
        return merged

    def _repaired(
        self,
        merged: Tensors,
        models: list[Contribution],
        arrivals: Arrivals,
        sketches: Mapping[ClientId, Sketch],
        frames: Mapping[ClientId, Perms],
    ) -> Tensors:
        way = self._method.repair
        assert way != "none"
        inputs = self._framing.probes({one.client: sketches[one.client] for one in models} if sketches else {})
        targets: Statistics = {}
        if way != "norm-reset" and self._method.repair_targets == "clients":
            known = [
                (weight, self._framing.statistics_spec.apply(found, frames[client]) if client in frames else found)
                for client, (weight, found) in arrivals.statistics.items()
            ]
        elif way != "norm-reset":
            known = [(one.weight, statistics(self._model, one.state, inputs)) for one in models]
        else:
            known = []
        for weight, found in known:
            part = weight / sum(each for each, _ in known)
            targets = {name: targets.get(name, 0.0) + part * value for name, value in found.items()}
        return restore(self._model, merged, targets, inputs, way)

    def _split(self, state: Tensors) -> tuple[Tensors, Tensors]:
        buffers = {name for name, _ in self._model.named_buffers()}
        return (
            {name: value for name, value in state.items() if name not in buffers},
            {name: value for name, value in state.items() if name in buffers},
        )


def _blend(one: Tensors, weight: float, other: Tensors, other_weight: float) -> Tensors:
    total = weight + other_weight
    return {
        name: ((value.double() * weight + other[name].double() * other_weight) / total).to(value.dtype)
        for name, value in one.items()
    }
