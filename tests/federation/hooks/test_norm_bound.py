"""Updates longer than the bound: clipped or refused, and said."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.federation.rounds import first_round, on_three_values, weights_of

import onebasin as ob
from onebasin.core.norms import length
from onebasin.federation.hooks.hook import HookContext
from onebasin.federation.hooks.norm_bound import BoundedNorms
from onebasin.federation.messages import Report
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.replies import CheckedReply, OwnModel
from onebasin.learning.task import Task
from onebasin.wire.error import WireError

MakeTask = Callable[[list[list[float]], list[int]], Task]
MakeConfig = Callable[..., RunConfig]


CODED = "method.uplink=error-feedback | fp32"


@pytest.mark.parametrize("uplink", ["method.uplink=fp32", CODED])
def test_long_updates_are_clipped_and_remarked(quadratic: MakeTask, uplink: str) -> None:
    # updates [3, 0, 4] of norm 5 and [300, 0, 400] of 500: the second becomes [3, 0, 4]
    task = quadratic([[6.0, 0.0, 8.0], [600.0, 0.0, 800.0]], [1, 1])
    server = first_round(on_three_values("fedavg", "method.norm_bound.limit=5.0", uplink), task)
    assert weights_of(server) == pytest.approx([3.0, 0.0, 4.0], abs=1e-6)
    assert server.result.remarks == {1: "clipped: the update's norm is 500; method.norm_bound.limit is 5"}


def test_long_updates_are_refused_with_the_reason(quadratic: MakeTask) -> None:
    task = quadratic([[6.0, 0.0, 8.0], [600.0, 0.0, 800.0]], [1, 1])
    server = first_round(on_three_values("fedavg", 'method.norm_bound={limit=5.0, over="reject"}'), task)
    assert weights_of(server) == [3.0, 0.0, 4.0]
    assert server.result.failures == {1: "WireError: the update's norm is 500; method.norm_bound.limit is 5"}


def test_remarks_are_part_of_the_history(quick_config: MakeConfig, tmp_path: Path) -> None:
    history = ob.run(quick_config("fedavg", "method.norm_bound.limit=0.1"), out=tmp_path / "run").history
    assert [remark["client"] for remark in history[0]["remarks"]] == [0, 1, 2, 3]
    assert history[0]["remarks"][0]["remark"].startswith("clipped: the update's norm is ")
    assert "remarks" not in ob.run(quick_config("fedavg"), out=tmp_path / "plain").history[0]


# The check by itself


def checked(norm: dict[str, object], *update: float) -> tuple[CheckedReply, str]:
    config = read_config({"method": {"name": "fedavg", "norm_bound": norm}})
    hook = BoundedNorms(HookContext(config, None, 1))  # type: ignore[arg-type]
    return hook.check(CheckedReply(Report(1, 1), {"w": torch.tensor(update)}))


@pytest.mark.parametrize("over", ["clip", "reject"])
def test_an_update_as_long_as_the_bound_passes_as_it_is(over: str) -> None:
    reply, remark = checked({"limit": 5.0, "over": over}, 3.0, 0.0, -4.0)
    assert reply.update is not None
    assert reply.update["w"].tolist() == [3.0, 0.0, -4.0]
    assert remark == ""


def test_a_longer_one_is_shortened_or_refused() -> None:
    # [6, 0, -8] has the norm 10, and is halved
    reply, remark = checked({"limit": 5.0}, 6.0, 0.0, -8.0)
    assert reply.update is not None
    assert reply.update["w"].tolist() == [3.0, 0.0, -4.0]
    assert remark == "clipped: the update's norm is 10; method.norm_bound.limit is 5"
    with pytest.raises(WireError, match=r"the update's norm is 10; method\.norm_bound\.limit is 5"):
        checked({"limit": 5.0, "over": "reject"}, 6.0, 0.0, -8.0)


@given(st.lists(st.floats(-(2.0**60), 2.0**60, width=32), min_size=1, max_size=5), st.floats(0.01, 100))
def test_no_update_is_longer_afterwards(values: list[float], limit: float) -> None:
    reply, remark = checked({"limit": limit}, *values)
    assert reply.update is not None
    found = length(reply.update)
    assert found <= limit * (1 + 1e-6)
    assert bool(remark) == (length({"w": torch.tensor(values)}) > limit)


def test_whole_models_have_no_bound() -> None:
    config = read_config({"method": {"name": "fedavg", "norm_bound": {"limit": 1.0}}})
    reply = CheckedReply(Report(1, 1), own_model=OwnModel(weights={"w": torch.full((3,), 9.0)}))
    assert BoundedNorms(HookContext(config, None, 1)).check(reply) == (reply, "")  # type: ignore[arg-type]
