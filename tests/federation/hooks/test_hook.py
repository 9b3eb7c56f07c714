"""Which hooks a run has, in which order; that the base does nothing; and a user's own, over two rounds."""

from collections.abc import Callable

import pytest
import torch
from tests.federation.rounds import Federation, on_three_values, small, weights_of

from onebasin.core.state import State
from onebasin.federation.hooks.attack import HostileClients
from onebasin.federation.hooks.control_variates import ControlVariateExchange
from onebasin.federation.hooks.hook import Hook, HookContext, StartingPoint, hooks_of
from onebasin.federation.hooks.norm_bound import BoundedNorms
from onebasin.federation.hooks.personal_masks import PersonalMasks
from onebasin.federation.hooks.privacy import PrivateUpdates
from onebasin.federation.messages import Report
from onebasin.federation.read_config import read_config
from onebasin.federation.server.replies import CheckedReply
from onebasin.learning.local_training import Start, Trained
from onebasin.learning.task import Task
from onebasin.wire.message import Message, decode_message

MakeTask = Callable[[list[list[float]], list[int]], Task]
TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0]]
ATTACK = "federation.attack=sign-flip"
BOUND = "method.norm_bound={limit=1.0}"
PRIVACY = "method.privacy={clip=1.0, noise=1.0}"


@pytest.mark.parametrize(
    ("method", "changes", "expected"),
    [
        ("fedavg", (), []),
        ("scaffold", (), [ControlVariateExchange]),
        ("scaffold", (ATTACK,), [HostileClients, ControlVariateExchange]),
        ("fedmask", (), [PersonalMasks]),
        ("fedavg", (BOUND, PRIVACY, ATTACK), [HostileClients, PrivateUpdates, BoundedNorms]),
        ("local-only", (ATTACK,), [HostileClients]),
        ("local-only", (), []),
    ],
)
def test_hooks_act_in_a_fixed_order(method: str, changes: tuple[str, ...], expected: list[type[Hook]]) -> None:
    config = read_config(method, changes)
    found = hooks_of(HookContext(config, None, 4))  # type: ignore[arg-type]
    assert [type(hook) for hook in found] == expected


def test_by_default_a_hook_does_nothing() -> None:
    hook = Hook(HookContext(read_config("fedavg"), None, 4))  # type: ignore[arg-type]
    state, slots = State(), {"weights": {"w": torch.zeros(1)}}
    reply, report = CheckedReply(Report(1, 1)), Report(1, 1)
    point = StartingPoint({}, {}, {}, own=True)
    trained, message = Trained({}, {}, {}, 1, 0.5), Message(0, 1, 0, ())
    hook.begin(state)
    hook.before_aggregation(state, None, 1)  # type: ignore[arg-type]
    hook.after_aggregation(slots, None)  # type: ignore[arg-type]
    assert state == State()
    assert slots.keys() == {"weights"}
    assert hook.check(reply) == (reply, "")
    assert hook.starting_point(point, message, state) is point
    assert hook.after_training(0, 1, Start({}, {}), trained) is trained
    assert hook.report(report) is report
    assert hook.correction(message, state) == {}
    update = {"w": torch.ones(1)}
    assert hook.update(update, {}, 0, 1) is update
    sections = (
        hook.model_sections(state),
        hook.request_sections(state),
        hook.reply_sections(None, trained, state, slots),  # type: ignore[arg-type]
    )
    assert [list(each) for each in sections] == [[], [], []]
    assert (hook.section, hook.keeps_model) == ("", False)


def test_a_users_hook_takes_part_on_both_sides(quadratic: MakeTask) -> None:
    # halves of [4, 0, -4] and [0, 8, -4] have the mean [1, 2, -2]; the whole ones [2, 4, -4]
    config = on_three_values("fedavg", "method.objective=tests.federation.hooks.own_hook:Halved")
    made = Federation(config, quadratic(TARGETS, [1, 2]))
    server = made.server
    assert server.state.facts["rounds"] == 0
    server.state.slots["weights"] = {"w": torch.zeros(3)}
    (exchange,) = list(made.exchanges(1))
    assert weights_of(server) == [1.0, 2.0, -2.0]
    assert server.state.slots["whole"]["w"].tolist() == [2.0, 4.0, -4.0]
    assert server.state.facts["rounds"] == 1
    assert server.result.remarks == {0: "101 examples", 1: "102 examples"}
    for client, reply in exchange.replies.items():
        assert isinstance(reply, bytes)
        assert [section.name for section in decode_message(reply).sections] == ["report", "update", "control"]
        assert made.engine.state_of(client).facts == {"sent": 1, "round": 1}
    assert made.engine.state_of(1).slots["whole"]["w"].tolist() == [0.0, 8.0, -4.0]


def test_a_round_with_a_users_hook_can_be_saved_in_its_middle() -> None:
    made = Federation(small("fedavg", "method.objective=tests.federation.hooks.own_hook:Halved"))
    orders = made.server.open(1)
    restored = made.another_server()
    restored.restore(State.from_bytes(made.server.save().to_bytes()))
    replies = list(made.engine.exchange(orders))
    assert made.server.close(replies) == restored.close(replies) == {}
    assert restored.save().to_bytes() == made.server.save().to_bytes()
