"""The server: who gets which bytes, what a reply changes, and where a run cannot begin."""

from collections.abc import Callable

import pytest
import torch
from tests.federation.rounds import Federation, composition, on_three_values, small, weights_of

from onebasin.core.clients import Failure
from onebasin.core.settings import ConfigError
from onebasin.federation.server.server import Server
from onebasin.learning.load_task import load_task
from onebasin.learning.task import Task
from onebasin.wire.ledger import Decoded

MakeTask = Callable[[list[list[float]], list[int]], Task]
TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0], [4.0, 4.0, 4.0]]


@pytest.fixture
def three(quadratic: MakeTask) -> Federation:
    """A server at [0, 0, 0] and three clients, whose replies are half their targets."""
    made = Federation(on_three_values(clients=3), quadratic(TARGETS, [1, 1, 1]))
    made.server.state.slots["weights"] = {"w": torch.zeros(3)}
    return made


def test_clients_that_need_the_same_are_sent_the_same_bytes(three: Federation) -> None:
    orders = three.server.open(1)
    assert orders[0] is orders[1] is orders[2]
    three.server.state.facts["met"] = [0, 2]
    orders = three.server.open(2)
    assert orders[0] is orders[2]
    assert orders[1] != orders[0], "it receives a model for the first time, which is charged otherwise"


def test_who_was_sent_a_model_is_known_from_then_on(three: Federation) -> None:
    three.server.open(1)
    assert three.server.state.facts["met"] == [0, 1, 2]
    made = Federation(small("fedavg", "method.start=local"))
    made.server.open(1)
    assert made.server.state.facts["met"] == [], "nobody is sent one before there is one"


def test_a_round_goes_on_without_those_who_fail(three: Federation) -> None:
    replies = dict(three.engine.exchange(three.server.open(1)))
    replies[1] = Failure("TrainingFailed: no examples")
    assert three.server.close(list(replies.items())) == {}
    assert weights_of(three.server) == [3.0, 1.0, -1.0]
    assert three.server.result.failures == {1: "TrainingFailed: no examples"}
    assert three.server.result.reports.keys() == {0, 2}
    assert three.server.result.decoded == Decoded(equal=2)


def test_a_round_without_replies_changes_nothing(three: Federation) -> None:
    three.server.open(1)
    before = three.state()
    assert three.server.close([(client, Failure("gone")) for client in range(3)]) == {}
    assert three.state() == before
    assert three.server.result.reports == {}


def test_a_reply_counts_once_and_only_from_those_who_were_asked(three: Federation) -> None:
    replies = dict(three.engine.exchange(three.server.open(1)))
    three.server.close([(0, replies[0]), (0, replies[0]), (7, replies[1])])
    assert weights_of(three.server) == [4.0, 0.0, -4.0]
    assert three.server.result.remarks.keys() == {0, 7}
    assert three.server.result.failures == {}


def test_a_client_whose_state_is_in_doubt_is_thought_to_have_no_version() -> None:
    made = Federation(composition("top-k both ways")).play(1)
    holds = made.server.state.facts["holds"]
    assert set(holds.values()) == {0}
    made.server.open(2)
    made.server.close(
        [
            (0, Failure("WireError: the order tells what changed since version 0")),
            (1, Failure("Diverged: the body gives other values")),
            (2, Failure("gone")),
        ]
    )
    assert made.server.state.facts["holds"] == {"1": -1, "2": 0, "3": 0}
    assert made.server.result.decoded == Decoded(different=1)


def test_a_global_model_that_cannot_be_encoded_fails_for_everybody_with_the_reason(three: Federation) -> None:
    three.server.state.slots["weights"] = {"w": torch.full((3,), torch.nan)}
    assert three.server.open(1) == {}
    assert three.server.result.failures.keys() == {0, 1, 2}
    assert three.server.result.failures[0].startswith("the common model cannot be sent: w has 3 values")


@pytest.mark.parametrize(("every", "scored"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_models_are_scored_every_so_many_rounds_and_after_the_last(
    quadratic: MakeTask, every: int, scored: list[int]
) -> None:
    config = on_three_values("fedavg", "federation.rounds=5", f"federation.evaluate_every={every}")
    server = Server(config, quadratic(TARGETS[:2], [1, 1]))
    assert [round for round in range(1, 6) if server.is_evaluated(round)] == scored


def test_a_task_with_too_few_clients_is_refused_before_the_first_round(quadratic: MakeTask) -> None:
    config = on_three_values("fedavg", "federation.late=3", clients=0)
    with pytest.raises(ConfigError, match=r"federation\.late=3 leaves none of 3 clients to begin with"):
        Server(config, quadratic(TARGETS, [1, 1, 1]))
    config = on_three_values("fedavg", "method.combine=median", clients=0)
    with pytest.raises(ConfigError, match=r"a median needs 3 replies or more; there are 2: see task\.clients"):
        Server(config, quadratic(TARGETS[:2], [1, 1]))


def test_a_model_that_joins_makes_its_client_one_of_the_merged() -> None:
    made = Federation(composition("own starts, signatures, a late client"))
    server = made.server
    assert server.state.facts["merged"] == []
    asked = server.close(list(made.engine.exchange(server.open(1))))
    assert server.state.facts["merged"] == []
    assert server.state.facts["frames"] == {"0": 1, "1": 1, "2": 1}
    assert server.close(list(made.engine.exchange(asked))) == {}
    assert server.state.facts["merged"] == [0, 1, 2]
    assert server.state.facts["frames"] == {}, "they sent their models in it"


def test_the_seed_of_an_adopted_model_is_what_all_deltas_count_from() -> None:
    made = Federation(composition("onebasin"))
    server = made.server
    assert server.state.facts["base"] is None
    asked = server.close(list(made.engine.exchange(server.open(1))))
    ((chosen, reply),) = made.engine.exchange(asked)
    assert server.close([(chosen, reply)]) == {}
    initial = server.protocol.initial_model(server.state.facts["base"])[0]
    assert server.state.facts["merged"] == [chosen]
    assert (server.state.facts["version"], server.state.facts["since"]) == (1, 0)
    assert {name: value.shape for name, value in initial.items()} == {
        name: value.shape for name, value in server.state.slots["weights"].items()
    }


@pytest.mark.parametrize("weighting", ["examples", "uniform"])
def test_replies_weigh_as_the_federation_says(quadratic: MakeTask, weighting: str) -> None:
    # half of [8, 0, -8] with 3 examples, half of [0, 16, -8] with 1
    made = Federation(on_three_values("fedavg", f"federation.weighting={weighting}"), quadratic(TARGETS[:2], [3, 1]))
    made.server.state.slots["weights"] = {"w": torch.zeros(3)}
    made.play(1)
    assert weights_of(made.server) == ([3.0, 2.0, -4.0] if weighting == "examples" else [2.0, 4.0, -4.0])


def test_two_servers_of_one_configuration_are_alike() -> None:
    config = small("scaffold")
    one, other = (Server(config, load_task(config)) for _ in range(2))
    assert one.save().to_bytes() == other.save().to_bytes()
    assert dict(one.open(1)) == dict(other.open(1))
