"""Other codecs in the first rounds: by hand, with catch-up, resumed, refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import Point
from tests.federation.test_downlink_deltas import TARGETS, MakeTask, Played, configure
from tests.stopped_runs import Stop, StopWithin, assert_same_run

import onebasin as ob
from onebasin.codecs.context import CodingContext
from onebasin.codecs.named_codecs import make_codec
from onebasin.codecs.warmup_schedule import WarmupSchedule
from onebasin.core.layout import Layout
from onebasin.core.settings import ConfigError
from onebasin.core.state import State
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.load_task import load_task
from onebasin.wire.error import WireError
from onebasin.wire.ledger import Decoded

ALL, PART = "random-k 1.0 shared=true | fp32", "fragment 3 | fp32"
FIRST = {"rounds": 2, "uplink": "error-feedback | ternary 1.2", "downlink": "error-feedback | hadamard | eden 1"}


def test_the_first_rounds_have_their_own_codec() -> None:
    tensors = {"w": torch.tensor([3.0, -1.0, 2.0])}
    layout = Layout.of(tensors)
    all_, part = make_codec(ALL, layout), make_codec(PART, layout)
    coding = WarmupSchedule(2, all_, part)
    for number, expected in ((1, all_), (2, all_), (3, part)):
        context = CodingContext(round=number)
        body, received = coding.send(tensors, context)
        assert body == expected.body(tensors, context)
        assert torch.equal(coding.receive(body, context)["w"], received["w"])
        assert len(body) <= coding.most_bytes
    with pytest.raises(WireError, match="the body is not"):
        coding.receive(coding.body(tensors, CodingContext(round=2)), CodingContext(round=3))
    first, later = coding.sent_mask(CodingContext(round=1)), coding.sent_mask(CodingContext(round=3))
    assert first is not None
    assert later is not None
    assert (int(first["w"].sum()), int(later["w"].sum())) == (3, 1)


def test_all_is_trained_first_and_then_a_part_by_hand(quadratic: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 0, client i is at t_i / 2: the mean of [4, 0, -4] and [0, 8, -4] is [2, 4, -4].

    From there steps go to [5, 2, -6] and [1, 10, -6]; of these the second value is trained and sent: 4 + (-2 + 6) / 2.
    """
    task = quadratic(TARGETS, [1, 1])
    monkeypatch.setattr(type(task), "build_model", lambda self, seed: Point())
    opening = f"method.opening={{rounds=1,uplink='{ALL}',downlink='{ALL}'}}"
    played = Played(configure(PART, PART, 3, opening, "method.trains=sent"), task)
    played.round(1)
    assert played.weights[0] == [2.0, 4.0, -4.0]
    played.round(2)
    assert played.weights[1] == [2.0, 6.0, -4.0]


def test_a_client_that_was_absent_at_the_change_of_codecs_catches_up() -> None:
    overrides = ("method.models=seeded", "method.start=local", "method.frame=adopt-one", "federation.cohort=2")
    config = read_config(
        {"method": {"name": "onebasin", "opening": FIRST}, "task": {"clients": 4}},
        [*overrides, "training.epochs=1", "federation.rounds=7"],
    )
    played = Played(config, load_task(config))
    for number in range(1, 8):
        played.round(number)
        assert played.server.result.failures == {}
    assert played.server.state.facts["version"] == 7


def test_first_rounds_cost_more_and_a_resumed_run_equals_an_uninterrupted_one(
    quick_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = quick_config({"name": "onebasin", "opening": FIRST}, "federation.rounds=5")
    whole = ob.run(config, out=tmp_path / "whole")
    kept = [State.from_bytes(file.read_bytes()) for file in (whole.directory / "checkpoint").glob("client-*")]
    assert kept
    assert not any(slot.startswith("uplink/") for state in kept for slot in state.slots), "later chains keep nothing"
    totals = [line["bytes"]["total"] for line in whole.history]
    assert totals[1] - totals[0] > 5 * (totals[4] - totals[3])

    with pytest.raises(Stop):
        ob.run(config, out=tmp_path / "cut", observers=[StopWithin(3)])
    ob.run(config, resume=tmp_path / "cut")
    assert_same_run(whole.directory, tmp_path / "cut")


def test_a_warm_up_schedule_of_the_uplink_alone_changes_the_magnitude_of_the_noise(quadratic: MakeTask) -> None:
    """Masks over noise of magnitude 0.5 for one round, and of 0.01 from then on; the downlink is a plain codec."""
    opening = "method.opening={rounds=1,uplink='masked-noise 0.5 mask=signed'}"
    config = configure("masked-noise 0.01 mask=signed", "fp32", 3, opening, "method.parametrization=masked-noise")
    played = Played(config, quadratic(TARGETS, [1, 1]))
    before = torch.tensor(next(iter(played.server.state.slots["weights"].values())).tolist())
    moved = []
    for number in (1, 2, 3):
        played.round(number)
        after = torch.tensor(played.weights[-1])
        moved.append(float((after - before).abs().max()))
        before = after
    assert 0.01 < moved[0] <= 0.5
    assert max(moved[1:]) <= 0.01 + 1e-6
    assert played.server.result.decoded == Decoded(equal=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opening": FIRST | {"uplink": "fp32"}}, "'fp32' is none"),
        ({"opening": FIRST | {"rounds": 0}}, "rounds"),
        ({"opening": FIRST | {"downlink": "relay"}}, "downlink"),
        ({"opening": FIRST, "uplink": "int8", "downlink": "int8", "trains": "all", "models": "fp32"}, "'int8' is none"),
        ({"opening": {"rounds": 1}}, "uplink"),
        (
            {"name": "fedmrn", "opening": {"rounds": 1, "uplink": "sign"}},
            "'masked-noise', not 'sign scale=all'",
        ),
        ({"name": "bicompfl", "opening": {"rounds": 1, "uplink": "sign"}}, "'mrc.*' is none"),
    ],
)
def test_codecs_that_do_not_go_with_a_warm_up_schedule_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config({"method": {"name": "onebasin"} | changes})
