"""Neuron orders of a round: of one network in several orders, whose permutations are known."""

from collections.abc import Mapping

import pytest
import torch
from tests.federation.rounds import Federation, composition

from onebasin.core.layout import Tensors
from onebasin.federation.server.align_models import ModelAligner
from onebasin.methods.aggregation_rule import ClientModel
from onebasin.networks.weights import clone, parameters_of
from onebasin.symmetry.spec import Perms

WEIGHTS = dict.fromkeys(range(4), 1.0)


class Known:
    """One network, and what each client made of it: its neurons in another order."""

    def __init__(self, name: str, *changes: str) -> None:
        made = Federation(composition(name, *changes))
        self.neurons = made.server.protocol.neurons
        self.aligner: ModelAligner = made.server.aggregator.aligner
        self.spec = self.neurons.spec
        self.weights = clone(parameters_of(made.task.build_model(1)))
        self.perms = {client: self.spec.random(client) for client in range(1, 4)}

    def of(self, client: int) -> Tensors:
        return self.spec.apply(self.weights, self.perms[client]) if client in self.perms else self.weights

    def models(self, *clients: int, joined: tuple[int, ...] = ()) -> list[ClientModel]:
        return [ClientModel(client, 1.0, self.of(client), {}, client in joined) for client in clients]

    def signatures(self, *clients: int) -> Mapping[int, Tensors]:
        return {
            client: self.neurons.read_signatures(self.neurons.write_signatures(self.of(client))) for client in clients
        }

    def check(self, found: Mapping[int, Perms], like: int = 0) -> None:
        """Check that each client's permutations bring its model into the order of client `like`."""
        for client, perms in found.items():
            after = self.spec.apply(self.of(client), perms)
            assert all(torch.equal(value, self.of(like)[name]) for name, value in after.items()), client


@pytest.mark.parametrize("name", ["own starts, weights", "own starts, activations"])
def test_models_are_brought_into_the_order_of_the_first(name: str) -> None:
    known = Known(name)
    found = known.aligner.by_models(known.models(0, 1, 2, 3), None)
    assert list(found) == [0, 1, 2, 3]
    known.check(found)


@pytest.mark.parametrize("name", ["own starts, weights", "own starts, activations"])
def test_models_that_join_are_brought_into_the_order_of_the_global_one(name: str) -> None:
    known = Known(name)
    found = known.aligner.by_models(known.models(0, 1, 3, joined=(0, 1)), known.of(2))
    assert list(found) == [3], "who has begun from the global model is in its order"
    known.check(found, like=2)


def test_every_round_all_are_matched_where_that_is_asked_for() -> None:
    known = Known("own starts, every round, kept momenta")
    found = known.aligner.by_models(known.models(0, 1, 3, joined=(0, 1)), known.of(2))
    assert list(found) == [0, 1, 3]
    known.check(found, like=2)


def test_one_model_alone_keeps_its_order() -> None:
    known = Known("own starts, weights")
    found = known.aligner.by_models(known.models(3), None)
    identity = known.spec.identity()
    assert all(torch.equal(perm, identity[group]) for group, perm in found[3].items())
    known.check(found, like=3)


def test_signatures_bring_models_into_a_common_order() -> None:
    known = Known("own starts, signatures")
    known.check(known.aligner.by_signatures(known.signatures(0, 1, 2, 3), WEIGHTS, None))


def test_signatures_of_who_comes_later_are_matched_to_the_global_model() -> None:
    known = Known("own starts, signatures")
    known.check(known.aligner.by_signatures(known.signatures(1, 3), WEIGHTS, known.of(2)), like=2)


def test_the_signatures_of_one_client_alone_leave_its_order() -> None:
    known = Known("own starts, signatures")
    known.check(known.aligner.by_signatures(known.signatures(3), WEIGHTS, None), like=3)
