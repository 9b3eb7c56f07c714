"""Whole rounds of rules that bound hostile clients, against numbers worked out by hand."""

from collections.abc import Callable

import pytest
from tests.federation.rounds import first_round, on_three_values, weights_of

from onebasin.core.settings import ConfigError
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.task import Task

MakeTask = Callable[[list[list[float]], list[int]], Task]

LINE = [[0.0, 0.0, 2.0], [2.0, 0.0, 2.0], [6.0, 0.0, 2.0], [14.0, 0.0, 2.0], [200.0, 0.0, 2.0]]
CODED = "method.uplink=error-feedback | fp32"


def configure(*changes: str) -> RunConfig:
    return on_three_values("fedavg", *changes, clients=5)


@pytest.mark.parametrize("uplink", ["method.uplink=fp32", CODED])
@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        ("method.combine=trimmed-mean", [(1.0 + 3.0 + 7.0) / 3, 0.0, 1.0]),
        ("method.combine=median", [3.0, 0.0, 1.0]),
        ('method.combine={kind="median", rate=2.0}', [6.0, 0.0, 2.0]),
        ('method.combine={kind="krum", byzantine=1}', [1.0, 0.0, 1.0]),
        ('method.combine={kind="krum", byzantine=1, keep=2}', [0.5, 0.0, 1.0]),
    ],
)
def test_a_round_by_hand(quadratic: MakeTask, combine: str, expected: list[float], uplink: str) -> None:
    """Client i goes half the way to its target: updates 0, 1, 3, 7, 100 of the first value; examples do not count."""
    server = first_round(configure(combine, uplink, "federation.weighting=examples"), quadratic(LINE, [1, 1, 1, 1, 9]))
    assert weights_of(server) == pytest.approx(expected, abs=1e-6)


def test_clients_that_krum_left_out_get_a_remark(quadratic: MakeTask) -> None:
    server = first_round(configure('method.combine={kind="krum", byzantine=1}'), quadratic(LINE, [1] * 5))
    assert server.result.remarks == dict.fromkeys((0, 2, 3, 4), "left out by krum")
    assert len(server.result.reports) == 5


def test_a_round_with_too_few_replies_changes_nothing_and_is_recorded(quadratic: MakeTask) -> None:
    server = first_round(configure('method.combine={kind="krum", byzantine=1}'), quadratic(LINE, [1] * 5), without=(1,))
    assert weights_of(server) == [0.0, 0.0, 0.0]
    assert server.result.failures[1] == "gone"
    assert "needs 5 replies or more; there are 4" in server.result.failures[0]
    assert server.open(2).keys() == set(range(5))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("method.combine=krum",), r"method\.combine='krum': byzantine=2 .* needs 7 replies or more; there are 5"),
        (("method.combine=median", "federation.cohort=2"), r"a median needs 3 replies"),
        (('method.combine={kind="krum", byzantine=1}', "federation.late=1"), r"there are 4"),
        (('method.combine={kind="trimmed-mean", trim=0.45}', "federation.cohort=4"), r"cuts 2 each way"),
    ],
)
def test_too_few_clients_are_refused_at_the_start(
    quadratic: MakeTask, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Server(configure(*overrides), quadratic(LINE, [1] * 5))


@pytest.mark.parametrize(
    ("method", "override", "message"),
    [
        ("scaffold", "method.combine=median", "which neither norm_bound nor combine='median' guards"),
        ("scaffold", "method.norm_bound.limit=1.0", "which neither norm_bound nor combine='average' guards"),
        ("fedpm", "method.norm_bound.limit=1.0", "are for updates, which uplink='mask' has not"),
        ("bicompfl", "method.norm_bound.limit=1.0", "are for updates, which uplink='mrc"),
        ("local-only", "method.combine=krum", "are for updates, which uplink='none' has not"),
        ("fedavg", "method.norm_bound.limit=0.0", r"norm_bound\.limit: got 0\.0; input should be greater than 0"),
        ("fedavg", "federation.attack=bribe", r"federation\.attack\.kind: got 'bribe'; input should be 'sign-flip'"),
        ("fedavg", 'method.combine={kind="trimmed-mean", trim=0.5}', r"trim: got 0\.5; input should be less than 0\.5"),
    ],
)
def test_choices_that_exclude_each_other_are_named(method: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(method, [override])
