"""Which clients are asked for what, and what follows: a table for every kind of method."""

import pytest
import torch

from onebasin.core.state import State
from onebasin.federation.messages import Report, Request
from onebasin.federation.read_config import read_config
from onebasin.federation.server.phases import (
    adoption_request,
    next_requests,
    requests_in_order,
    training_requests,
)
from onebasin.methods.method import Method

TRAIN, UPDATE, MODEL, KEEP, SCORE, SIGNATURES, SKETCH, STATISTICS = Request
LOCAL = "method.start=local"


def method(name: str, *changes: str) -> Method:
    return read_config(name, changes).method


def state(*, merged: tuple[int, ...] = (), model: bool = False, sketches: tuple[int, ...] = ()) -> State:
    slots = {"weights": {"w": torch.zeros(1)}} if model else {}
    if sketches:
        slots["sketches"] = {str(client): torch.zeros(1) for client in sketches}
    return State(slots, {"merged": list(merged)})


BROADCAST = method("fedavg")
OWN = method("fedavg", LOCAL)
WEIGHTS = method("fedavg", LOCAL, "method.frame=weights")
SIGNED = method("fedavg", LOCAL, "method.frame=signatures")
ADOPTED = method("adopt-one")
EXPERTS = method("fedavg", LOCAL, "method.frame=weights", "method.combine=least-squares")
BY_CLIENTS = ("method.repair=rescale", "method.repair_targets=clients", "method.probes=noise")
REPAIRED = method("fedavg", LOCAL, "method.frame=weights", *BY_CLIENTS)
SIGNED_REPAIRED = method("fedavg", LOCAL, "method.frame=signatures", *BY_CLIENTS)


@pytest.mark.parametrize(
    ("chosen", "before", "expected"),
    [
        (BROADCAST, state(model=True), {0: TRAIN | UPDATE, 1: TRAIN | UPDATE}),
        (OWN, state(), {0: TRAIN | MODEL, 1: TRAIN | MODEL}),
        (OWN, state(model=True, merged=(0,)), {0: TRAIN | UPDATE, 1: TRAIN | UPDATE}),
        (WEIGHTS, state(), {0: TRAIN | MODEL, 1: TRAIN | MODEL}),
        (WEIGHTS, state(model=True, merged=(0,)), {0: TRAIN | UPDATE, 1: TRAIN | MODEL}),
        (SIGNED, state(), {0: TRAIN | KEEP | SIGNATURES, 1: TRAIN | KEEP | SIGNATURES}),
        (SIGNED, state(model=True, merged=(0,)), {0: TRAIN | UPDATE, 1: TRAIN | KEEP | SIGNATURES}),
        (ADOPTED, state(), {0: TRAIN | KEEP, 1: TRAIN | KEEP}),
        (ADOPTED, state(model=True, merged=(0,)), {0: TRAIN | UPDATE, 1: TRAIN | UPDATE}),
        (EXPERTS, state(), {0: TRAIN | SKETCH | MODEL, 1: TRAIN | SKETCH | MODEL}),
        (EXPERTS, state(model=True, merged=(0, 1), sketches=(0,)), {0: TRAIN | UPDATE, 1: TRAIN | SKETCH | UPDATE}),
        (REPAIRED, state(), {0: TRAIN | STATISTICS | MODEL, 1: TRAIN | STATISTICS | MODEL}),
        (REPAIRED, state(model=True, merged=(0,)), {0: TRAIN | UPDATE, 1: TRAIN | STATISTICS | MODEL}),
        (
            SIGNED_REPAIRED,
            state(model=True, merged=(0,)),
            {0: TRAIN | UPDATE, 1: TRAIN | STATISTICS | KEEP | SIGNATURES},
        ),
    ],
)
def test_what_clients_are_asked_for_at_first(chosen: Method, before: State, expected: dict[int, Request]) -> None:
    assert training_requests(chosen, before, [0, 1], scored=False) == expected
    assert training_requests(chosen, before, [0, 1], scored=True) == expected, "the server scores the global model"


@pytest.mark.parametrize(
    ("chosen", "plain"),
    [
        (method("local-only"), TRAIN | KEEP),
        (method("centralised"), TRAIN | KEEP),
        (method("fedavg", "method.score=fine-tuned"), TRAIN | UPDATE),
        (method("fedmask"), TRAIN | UPDATE),
    ],
)
def test_clients_score_their_models_in_rounds_that_are_scored(chosen: Method, plain: Request) -> None:
    assert training_requests(chosen, state(model=True), [5], scored=False) == {5: plain}
    assert training_requests(chosen, state(model=True), [5], scored=True) == {5: plain | SCORE}


def test_nobody_is_asked_in_a_round_without_a_cohort() -> None:
    assert training_requests(BROADCAST, state(model=True), [], scored=True) == {}


def test_the_client_with_the_most_examples_is_adopted_and_of_equals_the_first() -> None:
    reports = {3: Report(5, 1), 1: Report(9, 1), 2: Report(9, 1), 0: Report(8, 1)}
    assert adoption_request(reports) == {1: MODEL}


def test_who_takes_an_order_sends_its_model_in_it() -> None:
    perms = {"group": torch.tensor([1, 0])}
    assert requests_in_order({2: perms, 0: perms}) == {2: MODEL, 0: MODEL}


REPORTS = {0: Report(5, 1), 1: Report(9, 1)}


@pytest.mark.parametrize(
    ("chosen", "before", "received", "expected"),
    [
        (BROADCAST, state(model=True), True, {}),
        (BROADCAST, state(model=True), False, {}),
        (OWN, state(), True, {}),
        (ADOPTED, state(), False, {1: MODEL}),
        (ADOPTED, state(), True, {}),  # the adopted model has come
        (ADOPTED, state(model=True), False, {}),
        (method("local-only"), state(), False, {}),
    ],
)
def test_what_follows_an_exchange(chosen: Method, before: State, received: bool, expected: dict[int, Request]) -> None:
    assert next_requests(chosen, before, REPORTS, {}, received) == expected


def test_models_follow_the_orders_that_signatures_led_to() -> None:
    orders = {1: {"group": torch.tensor([1, 0])}}
    assert next_requests(SIGNED, state(), REPORTS, orders, received_models=False) == {1: MODEL}
    assert next_requests(SIGNED, state(model=True), REPORTS, orders, received_models=True) == {1: MODEL}
    assert next_requests(SIGNED, state(model=True), REPORTS, {}, received_models=True) == {}


def test_nobody_is_adopted_in_a_round_without_replies() -> None:
    assert next_requests(ADOPTED, state(), {}, {}, received_models=False) == {}
