"""What is in a request, to the byte; and who gets the same one."""

from collections.abc import Callable, Mapping

import pytest
import torch
from tests.federation.rounds import Federation, composition, on_three_values, small

from onebasin.codecs.codec import NotFinite
from onebasin.core.seeds import derive
from onebasin.federation.messages import Request, write_request, write_seed
from onebasin.federation.neuron_messages import NewOrder
from onebasin.federation.server.requests import RequestKey, encode_request
from onebasin.learning.task import Task
from onebasin.wire.message import SERVER, Kind, Section

MakeTask = Callable[[list[list[float]], list[int]], Task]
TRAIN, UPDATE = Request.TRAIN, Request.SEND_UPDATE
TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0]]
ASKED = TRAIN | UPDATE


def sections(made: Federation, round: int, key: RequestKey) -> Mapping[str, Section]:
    message = made.server.protocol.read(encode_request(made.server.protocol, made.server.state, round, key), SERVER)
    assert message.round == round
    return {section.name: section for section in message.sections}


def test_a_broadcast_model_is_charged_as_initial_to_whom_has_none(quadratic: MakeTask) -> None:
    made = Federation(on_three_values(), quadratic(TARGETS, [1, 1]))
    made.server.state.slots["weights"] = {"w": torch.tensor([1.0, 2.0, 3.0])}
    for first, kind in ((True, Kind.INIT), (False, Kind.UPDATE)):
        found = sections(made, 2, RequestKey(ASKED, first, None, None))
        assert found.keys() == {"do", "weights"}
        assert found["do"] == write_request(ASKED)
        assert found["weights"].kind == kind
        assert found["weights"].body[4:] == torch.tensor([1.0, 2.0, 3.0]).numpy().tobytes()


def test_a_shared_seed_stands_for_the_model_of_the_first_round_and_for_no_other(quadratic: MakeTask) -> None:
    made = Federation(on_three_values("fedavg", "method.start=shared-seed"), quadratic(TARGETS, [1, 1]))
    key = RequestKey(ASKED, True, None, None)
    first = sections(made, 1, key)
    assert first == {"do": write_request(ASKED), "seed": write_seed(derive(0, "init"))}
    assert sections(made, 2, key).keys() == {"do", "weights"}


def test_buffers_travel_beside_weights_and_follow_from_a_seed() -> None:
    made = Federation(small("fedavg", "task.model.norm=batch"))
    found = sections(made, 1, RequestKey(ASKED, True, None, None))
    assert found.keys() == {"do", "weights", "buffers"}
    assert found["buffers"].kind == Kind.INIT
    made = Federation(small("fedavg", "task.model.norm=batch", "method.start=shared-seed"))
    assert sections(made, 1, RequestKey(ASKED, True, None, None)).keys() == {"do", "seed"}
    assert sections(made, 2, RequestKey(ASKED, True, None, None)).keys() == {"do", "weights", "buffers"}


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (TRAIN | Request.SEND_MODEL, {"do"}),
        (TRAIN | Request.KEEP_MODEL, {"do"}),
        (Request.SEND_MODEL, {"do"}),
        (ASKED, {"do", "weights"}),
    ],
)
def test_only_who_trains_on_the_global_model_is_sent_it(quadratic: MakeTask, asked: Request, names: set[str]) -> None:
    made = Federation(on_three_values(), quadratic(TARGETS, [1, 1]))
    assert sections(made, 1, RequestKey(asked, True, None, None)).keys() == names


def test_while_there_is_no_global_model_none_is_sent() -> None:
    made = Federation(small("fedavg", "method.start=local"))
    assert not made.server.has_model
    assert sections(made, 1, RequestKey(ASKED, True, None, None)).keys() == {"do"}


def test_control_variates_travel_to_all_who_train() -> None:
    made = Federation(small("scaffold", "method.start=local"))
    assert sections(made, 1, RequestKey(TRAIN | Request.SEND_MODEL, True, None, None)).keys() == {"do", "control"}
    assert sections(made, 1, RequestKey(Request.SEND_MODEL, True, None, None)).keys() == {"do"}


def test_signs_that_clients_have_in_common_follow_the_seed_of_their_scores() -> None:
    made = Federation(composition("fedmask"))
    key = RequestKey(ASKED, True, None, None)
    assert list(sections(made, 1, key)) == ["do", "seed"]
    assert list(sections(made, 2, key)) == ["do", "seed", "weights"]


def test_a_neuron_order_is_sent_with_the_round_in_which_it_was_found() -> None:
    made = Federation(composition("own starts, weights"))
    neurons, state = made.server.protocol.neurons, made.server.state
    perms = neurons.spec.random(3)
    state.slots["frame/2"], state.facts["frames"]["2"] = perms, 7
    found = sections(made, 1, RequestKey(Request.SEND_MODEL, True, 2, None))
    assert found.keys() == {"do", "permutation"}
    assert found["permutation"].kind == Kind.ALIGN
    order = neurons.read_permutations(found["permutation"].body)
    assert order.number == NewOrder(7, perms).number
    assert all(torch.equal(order.perms[group], perm) for group, perm in perms.items())


def test_deltas_are_sent_since_the_version_that_a_client_has() -> None:
    made = Federation(small("fedavg", "method.start=shared-seed", "method.downlink=top-k 0.01 | sign")).play()
    ever, behind, up_to_date = (
        sections(made, 2, RequestKey(ASKED, version is None, None, version)) for version in (None, 1, 2)
    )
    assert ever.keys() == {"do", "seed", "changes"}
    assert behind.keys() == up_to_date.keys() == {"do", "changes"}
    assert len(ever["changes"].body) > len(behind["changes"].body) > len(up_to_date["changes"].body)
    assert up_to_date["changes"].body == b"\x02", "the version, and nothing since"


def test_a_model_with_infinite_weights_is_sent_to_nobody(quadratic: MakeTask) -> None:
    made = Federation(on_three_values(), quadratic(TARGETS, [1, 1]))
    made.server.state.slots["weights"] = {"w": torch.tensor([1.0, torch.inf, 3.0])}
    with pytest.raises(NotFinite, match="w has 1 values"):
        encode_request(made.server.protocol, made.server.state, 1, RequestKey(ASKED, True, None, None))


def test_to_encode_a_request_changes_nothing() -> None:
    made = Federation(composition("top-k both ways")).play(1)
    before = made.state()
    one, other = (sections(made, 2, RequestKey(ASKED, False, None, 1)) for _ in range(2))
    assert one == other
    assert made.state() == before
