"""SCAFFOLD's variates: what travels, by how much the server's moves, and at which rate a client's are counted."""

from collections.abc import Callable

import pytest
import torch
from tests.federation.rounds import Federation, on_three_values, rewritten, weights_of

from onebasin.core.clients import Failure
from onebasin.core.settings import ConfigError
from onebasin.core.state import State
from onebasin.federation.client.starting_point import own_seed
from onebasin.federation.hooks.control_variates import ControlVariateExchange
from onebasin.federation.read_config import read_config
from onebasin.learning.task import Task
from onebasin.wire.error import WireError
from onebasin.wire.message import Kind, Section, decode_message

MakeTask = Callable[[list[list[float]], list[int]], Task]
TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0]]
LOCAL = "method.start=local"


def scaffold(quadratic: MakeTask, *changes: str) -> Federation:
    made = Federation(on_three_values("scaffold", *changes), quadratic(TARGETS, [1, 1]))
    if made.server.has_model:
        made.server.state.slots["weights"] = {"w": torch.zeros(3)}
    return made


def control(state: State) -> list[float]:
    values: list[float] = state.slots["control"]["w"].tolist()
    return values


def test_variates_begin_at_zero_and_travel_with_every_request(quadratic: MakeTask) -> None:
    made = scaffold(quadratic)
    assert control(made.server.state) == [0.0, 0.0, 0.0]
    for order in made.server.open(1).values():
        section = decode_message(order).section("control")
        assert section is not None
        assert section.kind == Kind.UPDATE
        assert made.server.protocol.fp32.decode(section.body)["w"].tolist() == [0.0, 0.0, 0.0]


def test_a_client_sends_the_change_of_its_variate(quadratic: MakeTask) -> None:
    # K = 1, rate 1/2, from 0 to t/2: c_i = (0 - t/2) / (1 * 1/2) - c + c_i = -t
    made = scaffold(quadratic)
    exchange = next(made.exchanges())
    for client, target in enumerate(TARGETS):
        reply = exchange.replies[client]
        assert isinstance(reply, bytes)
        section = decode_message(reply).section("control")
        assert section is not None
        assert made.server.protocol.fp32.decode(section.body)["w"].tolist() == [-value for value in target]
        assert control(made.engine.state_of(client)) == [-value for value in target]


def test_the_servers_moves_by_the_share_of_clients_that_replied(quadratic: MakeTask) -> None:
    # c + |S|/N * mean change: both reply, mean of -t; or the second alone, half of -t
    made = scaffold(quadratic).play(1)
    assert control(made.server.state) == [-4.0, -8.0, 8.0]
    made = scaffold(quadratic)
    replies = dict(made.engine.exchange(made.server.open(1)))
    made.server.close([(0, Failure("gone")), (1, replies[1])])
    assert control(made.server.state) == [0.0, -8.0, 4.0]
    made = scaffold(quadratic)
    made.server.open(1)
    made.server.close([(0, Failure("gone")), (1, Failure("gone"))])
    assert control(made.server.state) == [0.0, 0.0, 0.0]


def test_what_the_receiver_decodes_is_what_a_client_counts(quadratic: MakeTask) -> None:
    """Under a lossy codec the server's variate stays the mean of the clients'."""
    made = scaffold(quadratic, "method.uplink=int8", "training.steps=3").play()
    own = torch.tensor([control(made.engine.state_of(client)) for client in (0, 1)])
    torch.testing.assert_close(torch.tensor(control(made.server.state)), own.mean(0), rtol=1e-6, atol=1e-6)


def test_a_client_that_does_not_answer_keeps_its_variate(quadratic: MakeTask) -> None:
    made = scaffold(quadratic).play(1)
    before = made.engine.read_state(0)
    order = rewritten(made.server.open(2)[0], without=["control"])
    assert made.engine.answer(0, order) == Failure("WireError: the order has no section 'control'")
    assert made.engine.read_state(0) == before


def test_the_correction_is_the_difference_of_the_two(quadratic: MakeTask) -> None:
    made = scaffold(quadratic)
    (hook,) = made.client.protocol.hooks
    assert isinstance(hook, ControlVariateExchange)
    made.server.state.slots["control"] = {"w": torch.tensor([1.0, 2.0, 3.0])}
    message = decode_message(made.server.open(1)[0])
    own = State({"control": {"w": torch.tensor([1.0, 0.0, -1.0])}})
    assert hook.correction(message, State())["w"].tolist() == [1.0, 2.0, 3.0]
    assert hook.correction(message, own)["w"].tolist() == [0.0, 2.0, 4.0]


def test_a_variate_of_another_model_is_refused(quadratic: MakeTask) -> None:
    made = scaffold(quadratic)
    exchange = next(made.exchanges())
    reply = exchange.replies[1]
    assert isinstance(reply, bytes)
    body = decode_message(reply).require("control")
    for forged in (b"", body[:-1], body + b"\0", b"\0\0" + body[2:]):
        with pytest.raises(WireError):
            made.server.protocol.hooks[0].decode(forged)
    twin = scaffold(quadratic)
    twin.server.open(1)
    short = rewritten(reply, Section(Kind.UPDATE, "control", body[:-1]), without=["control"])
    twin.server.close([(1, short)])
    assert twin.server.result.failures.keys() == {1}
    assert control(twin.server.state) == weights_of(twin.server) == [0.0, 0.0, 0.0]


# Warm-up: clients begin with weights of their own, at a rate of its own


def test_the_variate_of_a_warm_up_is_counted_at_the_rate_of_the_warm_up(quadratic: MakeTask) -> None:
    # warm-up: rate 1/2, K = 2: w_after = t + (w_before - t) / 4, so |c_i| = |w_before - w_after| / (2 * 1/2)
    made = scaffold(quadratic, LOCAL, "training.lr=0.05", "training.warmup_lr=0.5", "training.steps=2").play(1)
    after, began = [], []
    for client, target in enumerate(TARGETS):
        before = float(own_seed(made.config, client) % 7)
        began.append([before] * 3)
        after.append([t + (before - t) / 4 for t in target])
        found = control(made.engine.state_of(client))
        expected = [abs(before - w) / (2 * 0.5) for w in after[client]]
        assert [abs(value) for value in found] == pytest.approx(expected, rel=1e-6)
        assert found == pytest.approx([before - w for w in after[client]], rel=1e-6)
    assert weights_of(made.server) == pytest.approx([sum(pair) / 2 for pair in zip(*after, strict=True)], rel=1e-6)
    assert control(made.server.state) == pytest.approx(
        [(b0 - a0 + b1 - a1) / 2 for b0, a0, b1, a1 in zip(began[0], after[0], began[1], after[1], strict=True)],
        rel=1e-6,
    )


def test_after_the_warm_up_it_is_counted_at_the_rate_of_the_rounds(quadratic: MakeTask) -> None:
    # round 2, from the global x, rate 1/20, K = 1: y = x - (x - t + c - c_i) / 20; c_i+ = c_i - c + (x - y) / (1/20)
    # = c_i - c + (x - t + c - c_i) = x - t: the gradient at x
    made = scaffold(quadratic, LOCAL, "training.lr=0.05", "training.warmup_lr=0.5").play(1)
    common = weights_of(made.server)
    second = made.server.open(2)
    made.server.close(list(made.engine.exchange(second)))
    for client, target in enumerate(TARGETS):
        expected = [x - t for x, t in zip(common, target, strict=True)]
        assert control(made.engine.state_of(client)) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_without_a_rate_of_its_own_the_warm_up_has_that_of_the_rounds(quadratic: MakeTask) -> None:
    # rate 1/2, K = 1: w_after = (w_before + t) / 2, c_i = (w_before - w_after) / (1/2) = w_before - t
    made = scaffold(quadratic, LOCAL).play(1)
    for client, target in enumerate(TARGETS):
        before = float(own_seed(made.config, client) % 7)
        assert control(made.engine.state_of(client)) == [before - t for t in target]


def test_the_rate_decays_with_the_rounds(quadratic: MakeTask) -> None:
    # rates 1/2, 1/4; round 2 from x: c_i+ = x - t, the gradient at x, whatever the rate
    made = scaffold(quadratic, "training.lr_decay=0.5").play(1)
    common = weights_of(made.server)
    made.server.close(list(made.engine.exchange(made.server.open(2))))
    for client, target in enumerate(TARGETS):
        assert control(made.engine.state_of(client)) == [x - t for x, t in zip(common, target, strict=True)]


REASON = r"needs training\.optimizer='sgd' with momentum=0, weight_decay=0 and no clip: its variates are"


@pytest.mark.parametrize(
    "changes",
    [
        (LOCAL, "training.warmup_optimizer=adam"),
        (LOCAL, "training.warmup_optimizer=adamw"),
        (LOCAL, "training.warmup_optimizer=torch.optim:RMSprop"),
        (LOCAL, "training.momentum=0.9"),
        (LOCAL, "training.momentum=0.9", "training.warmup_optimizer=sgd"),
        (LOCAL, "training.clip=1.0"),
        ("training.momentum=0.9",),
        ("training.optimizer=adam",),
        ("training.weight_decay=0.1",),
    ],
)
def test_steps_that_are_not_the_rate_times_the_gradient_are_refused(changes: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=REASON):
        read_config("scaffold", changes)


def test_a_warm_up_that_no_client_has_may_be_of_any_kind() -> None:
    assert read_config("scaffold", ["training.warmup_optimizer=adam"]).training.warmup_optimizer == "adam"
