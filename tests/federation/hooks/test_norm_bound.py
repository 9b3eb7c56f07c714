"""Updates longer than the bound: clipped or refused, and said."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.federation.rounds import first_round, on_three_values, weights_of

import onebasin as ob
from onebasin.federation.run_config import RunConfig
from onebasin.learning.task import Task

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
