"""Robust aggregation rules, norm bounds and simulated attacks, against numbers worked out by hand."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import Point

import onebasin as ob
from onebasin.core.clients import Failure, Reply
from onebasin.core.layout import Tensors
from onebasin.core.norms import length, shortened
from onebasin.core.seeds import generator
from onebasin.core.settings import ConfigError
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.hooks.attack import Attack, hostile_clients, poisoned
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.local_training import Trained
from onebasin.learning.task import Task
from onebasin.methods.aggregation.krum import Krum, krum_scores, squared_distances
from onebasin.methods.aggregation.median import Median
from onebasin.methods.aggregation.trimmed_mean import TrimmedMean
from onebasin.methods.aggregation_rule import AggregationRule, ClientModel, MergeContext, TooFewReplies

MakeTask = Callable[[list[list[float]], list[int]], Task]
MakeConfig = Callable[..., RunConfig]


def combine_robustly(rule: AggregationRule, rows: list[Tensors]) -> tuple[Tensors, list[int]]:
    """Merge one model per row; return the merged one, and the indices of the rows that were left out."""
    models = [ClientModel(number, 1.0, row, {}, joined=False) for number, row in enumerate(rows)]
    merged = rule.merge(models, cast(MergeContext, None))
    return merged.state, list(merged.left_out)


def states(*rows: list[float]) -> list[Tensors]:
    return [{"w": torch.tensor(row)} for row in rows]


def test_a_trimmed_mean_leaves_out_the_ends_of_each_value() -> None:
    # 5 values, trim 0.2: one from either end; [1 2 3], [10 20 60], and what is left of the hostile 1e9
    rows = states([1.0, 60.0], [2.0, 10.0], [3.0, 20.0], [1e9, 1e9], [-1e9, -1e9])
    merged, left_out = combine_robustly(TrimmedMean(trim=0.2), rows)
    assert merged["w"].tolist() == [2.0, 30.0]
    assert left_out == []


def test_the_trimmed_share_is_rounded_up() -> None:
    rows = states(*[[float(value)] for value in (0, 1, 2, 3, 4, 100)])
    merged, _ = combine_robustly(TrimmedMean(trim=0.2), rows)  # 1.2 clients are two
    assert merged["w"].tolist() == [2.5]
    merged, _ = combine_robustly(TrimmedMean(trim=0.1), states(*[[float(value)] for value in range(29)], [1e9]))
    assert merged["w"].tolist() == [14.5], "0.1 of 30 are 3, not 4"


@pytest.mark.parametrize(("values", "expected"), [((5.0, 1.0, 9.0), 5.0), ((5.0, 1.0, 9.0, 7.0), 6.0)])
def test_a_median_is_the_middle_or_the_mean_of_both_middles(values: tuple[float, ...], expected: float) -> None:
    merged, _ = combine_robustly(Median(), states(*[[value] for value in values]))
    assert merged["w"].tolist() == [expected]


def test_whole_numbers_and_flags_take_the_middle_one() -> None:
    rows = [{"n": torch.tensor(n), "b": torch.tensor([b])} for n, b in ((3, True), (2**62, False), (5, True))]
    merged, _ = combine_robustly(Median(), rows)
    assert merged["n"].item() == 5
    assert merged["b"].tolist() == [True]


def test_krum_by_hand() -> None:
    # On a line at 0, 1, 3, 7, 100; f = 1: each is judged by the 5 - 1 - 2 = 2 nearest.
    rows = states([0.0], [1.0], [3.0], [7.0], [100.0])
    distances = squared_distances(rows)
    assert distances[0].tolist() == [0.0, 1.0, 9.0, 49.0, 10000.0]
    assert krum_scores(distances, 1) == [1 + 9, 1 + 4, 4 + 9, 16 + 36, 93**2 + 97**2]
    merged, left_out = combine_robustly(Krum(byzantine=1), rows)
    assert merged["w"].tolist() == [1.0]
    assert left_out == [0, 2, 3, 4]
    merged, left_out = combine_robustly(Krum(byzantine=1, keep=2), rows)  # scores 5 and 10
    assert merged["w"].tolist() == [0.5]
    assert left_out == [2, 3, 4]


def test_krum_leaves_out_clients_that_send_infinity() -> None:
    rows = [{"w": torch.tensor([w]), "b": torch.tensor(b)} for w, b in ((0.0, 1.0), (1.0, 1.0), (2.0, 1.0))]
    hostile = {"w": torch.tensor([1.0]), "b": torch.tensor(math.inf)}
    merged, left_out = combine_robustly(Krum(byzantine=1, keep=3), [hostile, *rows, hostile])
    assert left_out == [0, 4]
    assert (merged["w"].item(), merged["b"].item()) == (1.0, 1.0)


@given(
    st.lists(st.lists(st.floats(-(2.0**20), 2.0**20, width=32), min_size=3, max_size=3), min_size=4, max_size=7),
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=3, max_size=3),
)
def test_one_hostile_client_moves_no_value_beyond_the_honest_ones(honest: list[list[float]], evil: list[float]) -> None:
    rows = states(*honest, evil)
    lowest, highest = torch.tensor(honest).amin(0), torch.tensor(honest).amax(0)
    for combine in (TrimmedMean(trim=0.2), Median()):
        merged, _ = combine_robustly(combine, rows)
        assert bool(((merged["w"] >= lowest) & (merged["w"] <= highest)).all())


@given(st.permutations(range(6)))
def test_the_order_of_replies_does_not_matter(order: list[int]) -> None:
    drawn = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    rows = [{"w": row} for row in drawn]
    for combine in (TrimmedMean(trim=0.2), Median(), Krum(byzantine=1), Krum(byzantine=1, keep=4)):
        expected, _ = combine_robustly(combine, rows)
        found, _ = combine_robustly(combine, [rows[place] for place in order])
        assert torch.equal(found["w"], expected["w"])


@pytest.mark.parametrize(
    ("combine", "count", "message"),
    [
        (Krum(byzantine=2), 6, "'krum': byzantine=2 and keep=1 needs 7 replies or more; there are 6"),
        (Krum(byzantine=1, keep=6), 6, "'krum': byzantine=1 and keep=6 needs 7 replies or more"),
        (TrimmedMean(trim=0.4), 4, "'trimmed-mean': trim=0.4, which cuts 2 each way, needs 5 replies"),
        (Median(), 2, "'median': a median needs 3 replies"),
    ],
)
def test_too_few_replies_are_named(combine: Any, count: int, message: str) -> None:
    with pytest.raises(TooFewReplies, match=message):
        combine_robustly(combine, states(*[[0.0]] * count))


# Whole rounds, on three parameters


def configure(*overrides: str, clients: int = 5) -> RunConfig:
    base = {
        "method": "fedavg",
        "task": {"clients": clients},
        "training": {"lr": 0.5, "batch": 4, "steps": 1},
        "federation": {"rounds": 2, "weighting": "uniform"},
    }
    return read_config(base, overrides)


def first_round(config: RunConfig, task: Task, without: tuple[int, ...] = ()) -> Server:
    server, engine = Server(config, task), InProcess(Client(config, task))
    server.state.slots["weights"] = {"w": torch.zeros(3)}
    replies: list[Reply] = list(engine.exchange(server.open(1)))
    assert not server.close([(c, Failure("gone") if c in without else reply) for c, reply in replies])
    return server


def weights_of(server: Server) -> list[float]:
    return server.state.slots["weights"]["w"].tolist()


LINE = [[0.0, 0.0, 2.0], [2.0, 0.0, 2.0], [6.0, 0.0, 2.0], [14.0, 0.0, 2.0], [200.0, 0.0, 2.0]]
CODED = "method.uplink=error-feedback | fp32"


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


def test_length_and_shortening() -> None:
    update = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}
    assert length(update) == 5.0
    assert {name: value.tolist() for name, value in shortened(update, 0.2).items()} == {
        "a": [pytest.approx(0.6), 0.0],
        "b": [[pytest.approx(0.8)]],
    }


@pytest.mark.parametrize("uplink", ["method.uplink=fp32", CODED])
def test_long_updates_are_clipped_with_a_remark(quadratic: MakeTask, uplink: str) -> None:
    # updates [3, 0, 4] of norm 5 and [300, 0, 400] of 500: the second becomes [3, 0, 4]
    task = quadratic([[6.0, 0.0, 8.0], [600.0, 0.0, 800.0]], [1, 1])
    server = first_round(configure("method.norm_bound.limit=5.0", uplink, clients=2), task)
    assert weights_of(server) == pytest.approx([3.0, 0.0, 4.0], abs=1e-6)
    assert server.result.remarks == {1: "clipped: the update's norm is 500; method.norm_bound.limit is 5"}


def test_long_updates_are_refused_with_the_reason(quadratic: MakeTask) -> None:
    task = quadratic([[6.0, 0.0, 8.0], [600.0, 0.0, 800.0]], [1, 1])
    server = first_round(configure('method.norm_bound={limit=5.0, over="reject"}', clients=2), task)
    assert weights_of(server) == [3.0, 0.0, 4.0]
    assert server.result.failures == {1: "WireError: the update's norm is 500; method.norm_bound.limit is 5"}


def test_remarks_are_part_of_the_history(quick_config: MakeConfig, tmp_path: Path) -> None:
    history = ob.run(quick_config("fedavg", "method.norm_bound.limit=0.1"), out=tmp_path / "run").history
    assert [remark["client"] for remark in history[0]["remarks"]] == [0, 1, 2, 3]
    assert history[0]["remarks"][0]["remark"].startswith("clipped: the update's norm is ")
    assert "remarks" not in ob.run(quick_config("fedavg"), out=tmp_path / "plain").history[0]


# Attacks


def test_a_fraction_of_the_clients_selected_by_the_seed_is_hostile() -> None:
    chosen = hostile_clients(Attack(fraction=0.2), 10, 3)
    assert len(chosen) == 2
    assert hostile_clients(Attack(fraction=0.2), 10, 3) == chosen
    assert len({hostile_clients(Attack(fraction=0.2), 10, seed) for seed in range(9)}) > 1
    assert hostile_clients(None, 10, 3) == frozenset()


def test_attacks_by_hand() -> None:
    began = {"w": torch.tensor([1.0, 1.0, 1.0])}
    trained = Trained({"w": torch.tensor([4.0, 1.0, 5.0])}, {}, {}, 1, 0.5)
    draws = generator(0, "test")
    flipped = poisoned(Attack(kind="sign-flip", strength=2.0), began, trained, draws).weights["w"]
    assert flipped.tolist() == [1.0 - 6.0, 1.0, 1.0 - 8.0]
    scaled = poisoned(Attack(kind="scale", strength=10.0), began, trained, draws).weights["w"]
    assert scaled.tolist() == [31.0, 1.0, 41.0]
    noise = poisoned(Attack(kind="noise", strength=3.0), began, trained, draws).weights["w"] - began["w"]
    assert float(noise.norm()) == pytest.approx(15.0, rel=1e-5)


def test_an_attack_is_sent_and_repeatable(quadratic: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    # one of two is hostile: updates 1 and -3 times the same half way
    task = quadratic([[2.0, 4.0, 6.0]] * 2, [1, 1])
    monkeypatch.setattr(type(task), "build_model", lambda self, seed: Point())
    config = configure('federation.attack={kind="sign-flip", fraction=0.5, strength=3.0}', clients=2)
    assert weights_of(first_round(config, task)) == [-1.0, -2.0, -3.0]
    assert config.identity() != configure(clients=2).identity()


def test_noise_differs_from_round_to_round_but_not_from_run_to_run(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("fedavg", 'federation.attack={kind="noise", fraction=0.25}')
    one, other = (ob.run(config, out=tmp_path / name) for name in ("a", "b"))
    pool = ob.run(config, ["engine.kind=pool", "engine.workers=2"], out=tmp_path / "pool")
    assert one.model is not None
    for run in (other, pool):
        assert run.model is not None
        assert all(torch.equal(p, q) for p, q in zip(one.model.parameters(), run.model.parameters(), strict=True))
