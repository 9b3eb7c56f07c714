"""Aggregation: the next global model from the replies of a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from torch import nn

from onebasin.core.clients import ClientId
from onebasin.core.layout import Tensors
from onebasin.federation.protocol import Protocol
from onebasin.federation.server.aggregation_buffer import AggregationBuffer
from onebasin.methods.aggregation_rule import ClientModel, Mean, MergeContext, Merged, Slots, apply_rule
from onebasin.methods.method import Method

if TYPE_CHECKING:
    from onebasin.alignment.sketches import Sketch
    from onebasin.federation.server.align_models import ModelAligner
    from onebasin.symmetry.spec import Perms


class Aggregator:
    """Applies the mean of updates, or aligns, merges and repairs whole models. It has no state."""

    def __init__(self, method: Method, protocol: Protocol, workspace: nn.Module, seed: int) -> None:
        self._method, self._protocol, self._model, self._seed = method, protocol, workspace, seed

    @property
    def needs_whole_models(self) -> bool:
        """Whether aggregation needs every model of a round, rather than a running mean."""
        aligned_here = self._method.frame in ("weights", "activations")
        return aligned_here or self._method.combine.sees_each_model or self._method.repair != "none"

    @property
    def aligner(self) -> ModelAligner:
        """The part that finds neuron orders; loaded only if the method aligns models."""
        from onebasin.federation.server.align_models import ModelAligner

        return ModelAligner(self._method, self._protocol.neurons, self._seed)

    def next_model(
        self,
        round: int,
        buffer: AggregationBuffer,
        slots: Slots,
        sketches: Mapping[ClientId, Sketch],
        orders: dict[ClientId, Perms],
        covered: Tensors | None,
    ) -> Slots:
        """Return the slots with the next global `weights` and `buffers`.

        buffer: the round's replies.
        slots: those of the server before the round.
        sketches: of the clients' inputs, as far as they were sent.
        orders: permutations that clients applied themselves; those found here are added.
        covered: which values the round's updates contain, booleans by parameter; None for all.
        Raises TooFewReplies if the aggregation rule needs more replies.
        """
        if not self.needs_whole_models:
            return self._from_means(buffer, slots, covered)
        models = buffer.models
        new_models = any(not one.joined for one in models)
        if self._method.frame in ("weights", "activations") and (new_models or self._method.alignment.every_round):
            models = self._aligned(models, slots, orders)
        known = {one.client: sketches[one.client] for one in models if one.client in sketches}
        probes = cache(lambda: self._protocol.neurons.probes(known, [one.state for one in models]))
        context = MergeContext(self._model, probes, known, lambda: self._protocol.neurons.spec, self._seed)
        merged = self._merged(round, models, context, new_models)
        buffer.remarks |= dict.fromkeys(merged.left_out, f"left out by {self._method.combine.kind}")
        after, state = dict(slots), merged.state
        if not merged.complete and not new_models:
            update = {name: state[name] - before for name, before in slots["weights"].items()}
            after = apply_rule(self._method.combine, after, self._mean_of_models(update, models), covered)
            state = state | after["weights"]
        if self._method.repair != "none" and (new_models or self._method.alignment.every_round):
            from onebasin.federation.server.repair_model import repaired

            reported = (
                self._reported_statistics(buffer, models, orders) if self._method.repair_targets == "clients" else {}
            )
            state = repaired(self._model, state, models, reported, probes(), self._method.repair)
        after["weights"], after["buffers"] = self._split(state)
        return after

    def _merged(self, round: int, models: list[ClientModel], context: MergeContext, new_models: bool) -> Merged:
        """Return the models as merged by the rule, or averaged where the rule does not merge."""
        rule = self._method.combine
        if rule.sees_each_model and rule.merges(round, new_models):
            return rule.merge(models, context)
        from onebasin.alignment.merging import average

        return Merged(average([one.state for one in models], [one.weight for one in models]))

    def _mean_of_models(self, update: Tensors, models: list[ClientModel]) -> Mean:
        """Return the update that models were merged into, as a rule gets it."""
        steps = sum(one.weight * one.steps for one in models) / sum(one.weight for one in models)
        return Mean(update, float(len(models)), steps, len(models) / self._protocol.clients)

    def _from_means(self, buffer: AggregationBuffer, slots: Slots, covered: Tensors | None) -> Slots:
        """Apply the mean of updates, and average the result with the mean of clients' own models."""
        after = dict(slots)
        updates, models = buffer.update, buffer.model
        if updates.weight:
            share = buffer.updates / self._protocol.clients
            mean = Mean(updates.result(), updates.weight, buffer.steps / updates.weight, share)
            after = apply_rule(self._method.combine, after, mean, covered)
        if models.weight:
            mean_model = models.result()
            if updates.weight:
                mean_model = _weighted_mean(after["weights"], updates.weight, mean_model, models.weight)
            after["weights"] = mean_model
        after["buffers"] = buffer.buffers.result() if len(buffer.buffer_layout) else {}
        return after

    def _aligned(self, models: list[ClientModel], slots: Slots, orders: dict[ClientId, Perms]) -> list[ClientModel]:
        """Return the models in the common neuron order, and add the permutations to `orders`."""
        common = slots["weights"] | slots["buffers"] if "weights" in slots else None
        found = self.aligner.by_models(models, common)
        orders |= found
        return [self._reordered(one, found[one.client]) if one.client in found else one for one in models]

    def _reordered(self, one: ClientModel, perms: Perms) -> ClientModel:
        weights, buffers = self._split(self._protocol.neurons.spec.apply(one.state, perms))
        return replace(one, weights=weights, buffers=buffers)

    def _reported_statistics(
        self, buffer: AggregationBuffer, models: list[ClientModel], orders: Mapping[ClientId, Perms]
    ) -> dict[ClientId, Tensors]:
        """Return the statistics that the models' clients reported, in the common neuron order."""
        spec, present = self._protocol.neurons.statistics_spec, {one.client for one in models}
        return {
            client: spec.apply(found, orders[client]) if client in orders else found
            for client, (_, found) in buffer.statistics.items()
            if client in present
        }

    def _split(self, state: Tensors) -> tuple[Tensors, Tensors]:
        buffers = {name for name, _ in self._model.named_buffers()}
        return (
            {name: value for name, value in state.items() if name not in buffers},
            {name: value for name, value in state.items() if name in buffers},
        )


def _weighted_mean(one: Tensors, weight: float, other: Tensors, other_weight: float) -> Tensors:
    """Return the weighted mean of two models, computed in float64."""
    total = weight + other_weight
    return {
        name: ((value.double() * weight + other[name].double() * other_weight) / total).to(value.dtype)
        for name, value in one.items()
    }
