"""Assembly: from what the clients of a round send to the next common model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from torch import nn

from onebasin.alignment.cycle_consistent import refine
from onebasin.alignment.matching import match
from onebasin.alignment.merging import align, average
from onebasin.alignment.repair import Statistics
from onebasin.alignment.sketches import Sketch
from onebasin.core.layout import Tensors
from onebasin.federation.engines.engine import ClientId
from onebasin.federation.neuron_messages import Framing
from onebasin.federation.server.aggregation_buffer import Arrivals, Contribution
from onebasin.federation.server.merge_models import by_least_squares, repaired
from onebasin.methods.method import Method
from onebasin.methods.robust import combine_robustly
from onebasin.methods.server_optimizers import apply_update
from onebasin.methods.settings import LeastSquares, Robust
from onebasin.symmetry.spec import Perms, PermutationSpec

Slots = dict[str, Tensors]


class Assembly:
    """The server's side of alignment: finds frames, merges, repairs. It keeps no state of its own."""

    def __init__(self, method: Method, framing: Framing, workspace: nn.Module, seed: int) -> None:
        self._method, self._framing, self._model, self._seed = method, framing, workspace, seed

    @property
    def whole(self) -> bool:
        """Whether the models of a round must be looked at one by one, rather than summed as they come."""
        aligned_here = self._method.frame in ("weights", "activations")
        one_by_one = isinstance(self._method.combine, LeastSquares | Robust)
        return aligned_here or one_by_one or self._method.repair != "none"

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
        self,
        round: int,
        arrivals: Arrivals,
        slots: Slots,
        sketches: Mapping[ClientId, Sketch],
        frames: dict[ClientId, Perms],
        part: Tensors | None,
    ) -> Slots:
        """Return the slots with the next common `weights` and `buffers`.

        frames: of the clients that were permuted on their own side; those found here are added to it. part: which
        values the replies could say, None for all. `TooFewReplies` where a robust combination has not enough of them.
        """
        if not self.whole:
            return self._from_means(arrivals, slots, part)
        common = slots["weights"] | slots["buffers"] if "weights" in slots else None
        models = arrivals.models
        fresh = any(not one.met for one in models)
        if self._method.frame in ("weights", "activations") and (fresh or self._method.alignment.every_round):
            found = self._frames(models, common)
            frames |= found
            models = [self._reordered(one, found[one.client]) if one.client in found else one for one in models]
        combine, after = self._method.combine, dict(slots)
        heard = {one.client: sketches[one.client] for one in models if one.client in sketches}
        probes = cache(lambda: self._framing.probes(heard, [one.state for one in models]))
        if isinstance(combine, LeastSquares) and combine.serves(round, fresh):
            spec = self._framing.spec if combine.balance else None
            merged = by_least_squares(self._model, combine, models, probes(), heard, spec, self._seed)
        else:
            merged = self._together(arrivals, models)
            if not fresh:
                change = {name: merged[name] - before for name, before in slots["weights"].items()}
                after = apply_update(combine, after, change, part=part)
                merged = merged | after["weights"]
        if self._method.repair != "none" and (fresh or self._method.alignment.every_round):
            told = self._told(arrivals, frames) if self._method.repair_targets == "clients" else None
            merged = repaired(self._model, merged, models, told, probes(), self._method.repair)
        after["weights"], after["buffers"] = self._split(merged)
        return after

    def _together(self, arrivals: Arrivals, models: list[Contribution]) -> Tensors:
        """One state from models in one order."""
        combine, states = self._method.combine, [one.state for one in models]
        if not isinstance(combine, Robust):
            return average(states, [one.weight for one in models])
        merged, left_out = combine_robustly(combine, states)
        arrivals.remarks |= {models[index].client: f"left out by {combine.kind}" for index in left_out}
        return merged

    def _from_means(self, arrivals: Arrivals, slots: Slots, part: Tensors | None) -> Slots:
        after = dict(slots)
        if arrivals.update.weight:
            update, weight = arrivals.update.result(), arrivals.update.weight
            after = apply_update(self._method.combine, after, update, weight, part)
        if arrivals.model.weight:
            arrived, weight = arrivals.model.result(), arrivals.model.weight
            if arrivals.update.weight:
                arrived = _blend(after["weights"], arrivals.update.weight, arrived, weight)
            after["weights"] = arrived
        after["buffers"] = arrivals.buffers.result() if len(arrivals.buffer_layout) else {}
        return after

    def _frames(self, models: list[Contribution], common: Tensors | None) -> dict[ClientId, Perms]:
        """Weights or activations: the way of each model into the common order; of those that met, as settings ask."""
        spec, seed = self._framing.spec, self._seed
        tensors = {one.client: one.state for one in models}
        reference = common
        if self._method.frame == "activations":
            responses = self._framing.responses
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

    def _reordered(self, one: Contribution, perms: Perms) -> Contribution:
        weights, buffers = self._split(self._framing.spec.apply(one.state, perms))
        return replace(one, weights=weights, buffers=buffers)

    def _told(self, arrivals: Arrivals, frames: Mapping[ClientId, Perms]) -> list[tuple[float, Statistics]]:
        """The statistics that clients sent, with their weights, in the common order."""
        spec = self._framing.statistics_spec
        return [
            (weight, spec.apply(found, frames[client]) if client in frames else found)
            for client, (weight, found) in arrivals.statistics.items()
        ]

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
