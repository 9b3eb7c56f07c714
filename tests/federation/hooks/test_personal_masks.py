"""Where a client with a mask of its own begins: its scores, turned by the signs that clients have in common."""

import pytest
import torch
from tests.federation.rounds import Federation, composition, rewritten

from onebasin.core.layout import Tensors
from onebasin.core.state import State
from onebasin.federation.hooks.hook import StartingPoint
from onebasin.federation.hooks.personal_masks import PersonalMasks
from onebasin.federation.messages import write_seed
from onebasin.wire.error import WireError
from onebasin.wire.message import SERVER, Kind, Message, Section


def signs_like(scores: Tensors, value: float) -> Tensors:
    return {name: torch.full_like(score, value) for name, score in scores.items()}


def equal(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def made() -> Federation:
    return Federation(composition("fedmask"))


def hook_of(made: Federation) -> PersonalMasks:
    (hook,) = made.client.protocol.hooks
    assert isinstance(hook, PersonalMasks)
    return hook


def test_the_server_begins_with_no_sign_in_common(made: Federation) -> None:
    assert all(not bool(value.any()) for value in made.server.state.slots["weights"].values())


def test_its_model_is_preceded_by_the_seed_of_the_scores(made: Federation) -> None:
    base = made.server.state.facts["base"]
    assert list(hook_of(made).model_sections(made.server.state)) == [write_seed(base)]


def test_who_has_no_scores_begins_with_those_of_the_seed(made: Federation) -> None:
    base = made.server.state.facts["base"]
    initial = made.client.protocol.initial_model(base)[0]
    message = Message(0, 1, SERVER, (write_seed(base),))
    point = StartingPoint(initial, {}, initial, own=False)
    found = hook_of(made).starting_point(point, message, State())
    assert equal(found.weights, initial)
    assert equal(found.known_model, signs_like(initial, 0.0)), "the server knows of nothing in common"


@pytest.mark.parametrize(("sign", "expected"), [(1.0, 0.005), (-1.0, -0.005), (0.0, None)])
def test_scores_are_turned_where_the_common_sign_is_another(
    made: Federation, sign: float, expected: float | None
) -> None:
    """Own scores -2 and 3 in turn: who agrees keeps its score, who does not has one of the rule's magnitude."""
    base = made.server.state.facts["base"]
    initial = made.client.protocol.initial_model(base)[0]
    signs, own = signs_like(initial, sign), {}
    for name, score in initial.items():
        own[name] = torch.where(torch.arange(score.numel()).view(score.shape) % 2 == 0, 3.0, -2.0)
    message = Message(0, 2, SERVER, (write_seed(base), Section(Kind.UPDATE, "weights", b"of signs")))
    found = hook_of(made).starting_point(StartingPoint(signs, {}, signs, own=False), message, State({"weights": own}))
    assert equal(found.known_model, signs)
    for name, score in own.items():
        turned = score * sign < 0
        wanted = score if expected is None else torch.where(turned, expected, score)
        assert torch.equal(found.weights[name], wanted)


def test_a_point_of_the_clients_own_stays_as_it_is(made: Federation) -> None:
    point = StartingPoint({}, {}, {}, own=True)
    assert hook_of(made).starting_point(point, Message(0, 1, SERVER, ()), State()) is point


def test_signs_without_the_seed_of_their_scores_are_refused(made: Federation) -> None:
    made.play(1)
    data = rewritten(made.server.open(2)[0], without=["seed"])
    with pytest.raises(WireError, match="has no section 'seed'"):
        made.client.begin(0, made.engine.state_of(0), data)


def test_each_client_keeps_scores_of_its_own(made: Federation) -> None:
    made.play()
    kept = [made.engine.state_of(client).slots["weights"] for client in range(4)]
    assert all(not equal(kept[0], other) for other in kept[1:])
    assert {value for signs in made.server.state.slots["weights"].values() for value in signs.unique().tolist()} <= {
        -1.0,
        0.0,
        1.0,
    }
