"""Simulated attacks: who is hostile, and what they send."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import Point
from tests.federation.rounds import first_round, on_three_values, weights_of

import onebasin as ob
from onebasin.core.seeds import generator
from onebasin.federation.hooks.attack import Attack, hostile_clients, poisoned
from onebasin.federation.run_config import RunConfig
from onebasin.learning.local_training import Trained
from onebasin.learning.task import Task

MakeTask = Callable[[list[list[float]], list[int]], Task]
MakeConfig = Callable[..., RunConfig]


def test_a_fraction_of_the_clients_is_hostile_and_the_seed_says_which() -> None:
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
    config = on_three_values("fedavg", 'federation.attack={kind="sign-flip", fraction=0.5, strength=3.0}')
    assert weights_of(first_round(config, task)) == [-1.0, -2.0, -3.0]
    assert config.identity() != on_three_values("fedavg").identity()


def test_noise_differs_from_round_to_round_but_not_from_run_to_run(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("fedavg", 'federation.attack={kind="noise", fraction=0.25}')
    one, other = (ob.run(config, out=tmp_path / name) for name in ("a", "b"))
    pool = ob.run(config, ["engine.kind=pool", "engine.workers=2"], out=tmp_path / "pool")
    assert one.model is not None
    for run in (other, pool):
        assert run.model is not None
        assert all(torch.equal(p, q) for p, q in zip(one.model.parameters(), run.model.parameters(), strict=True))
