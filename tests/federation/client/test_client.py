"""The client's three steps: only `train` needs data, and no state is touched before `finish`."""

from collections.abc import Callable

import pytest
import torch
from tests.federation.rounds import COMPOSITIONS, Federation, composition, on_three_values, small

from onebasin.core.clients import Failure
from onebasin.federation.client.client import Client
from onebasin.learning.local_training import TrainingFailed
from onebasin.learning.task import Task

MakeTask = Callable[[list[list[float]], list[int]], Task]
USERS = ("task.dataset=tests.user_code:dataset", "task.partition=iid")
TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0]]


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_step_changes_no_state_that_it_is_given(name: str) -> None:
    """So work that is lost on the way can be done again, with the same reply."""
    made = Federation(composition(name))
    for round in (1, 2):
        orders = made.server.open(round)
        while orders:
            client = max(orders)
            state = made.engine.state_of(client)
            before, found = state.to_bytes(), []
            for _ in range(2):
                work = made.client.begin(client, state, orders[client])
                after, reply = made.client.finish(state, made.client.train(work))
                found.append((after.to_bytes(), reply))
            assert found[0] == found[1]
            assert state.to_bytes() == before
            replies = dict(made.engine.exchange(orders))
            assert replies[client] == found[0][1]
            orders = made.server.close(list(replies.items()))


def test_two_clients_of_one_configuration_answer_alike() -> None:
    made = Federation(small("scaffold"))
    order = made.server.open(1)[3]
    other = Client(made.config, made.task)
    state = made.engine.state_of(3)
    answers = [each.finish(state, each.train(each.begin(3, state, order)))[1] for each in (made.client, other)]
    assert answers[0] == answers[1]


def test_whatever_a_users_model_raises_is_a_failed_training() -> None:
    made = Federation(small("fedavg", *USERS, "task.model=tests.user_code:moody"))
    work = made.client.begin(0, made.engine.state_of(0), made.server.open(1)[0])
    with pytest.raises(TrainingFailed, match="IndexError: not this one"):
        made.client.train(work)


def test_a_loss_that_is_not_finite_is_a_failure_and_the_state_stays(quadratic: MakeTask) -> None:
    made = Federation(on_three_values("scaffold"), quadratic(TARGETS, [1, 1]))
    made.server.state.slots["weights"] = {"w": torch.full((3,), 3e38)}
    answer = made.engine.answer(0, made.server.open(1)[0])
    assert answer == Failure("TrainingFailed: the loss became inf in step 1 of round 1")
    assert made.engine.state_of(0).slots == {}
