"""Neuron alignment at the server: finding the permutations that bring clients' models into one order."""

from __future__ import annotations

from collections.abc import Mapping

from onebasin.alignment.cycle_consistent import refine
from onebasin.alignment.matching import match
from onebasin.alignment.merging import align
from onebasin.core.clients import ClientId
from onebasin.core.layout import Tensors
from onebasin.federation.neuron_messages import NeuronMessages
from onebasin.methods.aggregation_rule import ClientModel
from onebasin.methods.method import Method
from onebasin.symmetry.spec import Perms, PermutationSpec


class ModelAligner:
    """Matches clients' models to the global model, or to each other if there is none yet."""

    def __init__(self, method: Method, neurons: NeuronMessages, seed: int) -> None:
        self._method, self._neurons, self._seed = method, neurons, seed

    def by_signatures(
        self, signatures: Mapping[ClientId, Tensors], weights: Mapping[ClientId, float], common: Tensors | None
    ) -> dict[ClientId, Perms]:
        """Return the permutations of each client's model to the common order, from signatures.

        signatures: decoded responses, by client. weights: of the clients, if they are matched to each other.
        common: the state of the global model; None if there is none, then the clients are matched to each other.
        """
        responses = self._neurons.responses
        if common is not None:
            reference = responses.of(common)
            return {client: match(responses.spec, reference, found, self._seed) for client, found in signatures.items()}
        if len(signatures) < 2:
            return {client: self._neurons.spec.identity() for client in signatures}
        return self._common_order(responses.spec, signatures, weights)

    def by_models(self, models: list[ClientModel], common: Tensors | None) -> dict[ClientId, Perms]:
        """Return the permutations of clients' models to the common order, from weights or activations.

        Models that started from the global one are matched only with `alignment.every_round`.
        common: as in `by_signatures`.
        """
        spec = self._neurons.spec
        tensors = {one.client: one.state for one in models}
        reference = common
        if self._method.frame == "activations":
            responses = self._neurons.responses
            spec = responses.spec
            tensors = {client: responses.of(state) for client, state in tensors.items()}
            reference = None if common is None else responses.of(common)
        moving = [one for one in models if not one.joined or self._method.alignment.every_round]
        if reference is not None:
            return {one.client: match(spec, reference, tensors[one.client], self._seed) for one in moving}
        if len(moving) < 2:
            return {one.client: spec.identity() for one in moving}
        chosen = {one.client: tensors[one.client] for one in moving}
        return self._common_order(spec, chosen, {one.client: one.weight for one in moving})

    def _common_order(
        self, spec: PermutationSpec, tensors: Mapping[ClientId, Tensors], weights: Mapping[ClientId, float]
    ) -> dict[ClientId, Perms]:
        """Match several models to each other, and return the permutations of each to one order."""
        clients, models = list(tensors), list(tensors.values())
        perms = align(spec, models, [weights[client] for client in clients], self._seed)
        if self._method.alignment.refine:
            perms = refine(spec, models, perms).perms
        return dict(zip(clients, perms, strict=True))
