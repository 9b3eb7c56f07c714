"""Training towards masked noise: what stands in for an update, and that a round sends what was trained for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import onebasin as ob
from onebasin.codecs.context import CodingContext
from onebasin.codecs.stages.masked_noise import MaskedNoise
from onebasin.core.settings import ConfigError
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.read_config import read_config
from onebasin.federation.round_loop import in_order
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.local_training import Start, Training, batches, steps_of
from onebasin.learning.masks import masked_update
from onebasin.learning.masks.masked_update import MaskedUpdate, forward_with_masked_update
from onebasin.learning.reuse import _digest
from onebasin.learning.task import Task

MakeConfig = Callable[..., RunConfig]
MakeTask = Callable[[list[list[float]], list[int]], Task]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_progress_masks_more_and_more() -> None:
    noise = torch.ones(10_000)
    update = torch.full((10_000,), 0.25)
    masking = MaskedUpdate({"w": noise}, signed=False)
    for progress in (0.0, 0.3, 0.9, 1.0):
        shown = masking.apply(update, noise, progress, draws())
        assert (shown != 0.25).float().mean().item() == pytest.approx(progress, abs=0.02)
        assert shown.mean().item() == pytest.approx(0.25, abs=0.02)
    at_once = MaskedUpdate({"w": noise}, signed=True, progressive=False).apply(update, noise, 0.0, draws())
    assert at_once.unique().tolist() == [-1.0, 1.0]


def test_parameters_are_themselves_again_and_have_the_gradient_of_what_stood_in() -> None:
    parameter = torch.nn.Parameter(torch.tensor([1.5, 3.0, -2.0]))
    began = {"w": torch.tensor([1.0, 1.0, 1.0])}
    masking = MaskedUpdate({"w": torch.tensor([0.25, -0.25, -0.25])}, signed=False)
    with forward_with_masked_update({"w": parameter.detach()}, began, masking, 1.0, draws()):
        assert parameter.tolist() == [1.25, 1.0, 0.75]
        (0.5 * parameter.square()).sum().backward()
    assert parameter.tolist() == [1.5, 3.0, -2.0]
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [1.25, 1.0, 0.75]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 4), st.none() | st.integers(1, 9))
def test_steps_are_counted_beforehand(examples: int, batch: int, epochs: int, steps: int | None) -> None:
    recipe = Training(batch=batch, epochs=epochs, steps=steps)
    indices = torch.arange(examples)
    assert steps_of(examples, recipe) == len(list(batches(indices, recipe, draws())))


def test_the_last_step_is_masked_whole(
    quick_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    @contextmanager
    def spied(*arguments: Any) -> Iterator[None]:
        seen.append(arguments[3])
        with forward_with_masked_update(*arguments):
            yield

    monkeypatch.setattr(masked_update, "forward_with_masked_update", spied)
    ob.run(quick_config("fedmrn", "training.epochs=1", "federation.rounds=1", "task.clients=1"), out=tmp_path / "run")
    assert seen[-1] == 1.0
    assert seen == pytest.approx([step / len(seen) for step in range(1, len(seen) + 1)])


def test_a_round_by_hand(quadratic: MakeTask) -> None:
    """Masks of 0 and 1 over noise of 1 and -1: in the first step nothing was learned, so nothing stands in.

    Client i goes from 0 to t_i / 2, by 4, 0 or 8 up or down; noise of that sign is kept, other is dropped.
    """
    targets = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0]]
    config = read_config(
        {
            "method": {"name": "fedmrn", "uplink": "masked-noise 1 noise=sign"},
            "task": {"clients": 2},
            "training": {"optimizer": "sgd", "lr": 0.5, "batch": 4, "steps": 1},
            "federation": {"rounds": 1, "weighting": "uniform"},
        }
    )
    task = quadratic(targets, [1, 1])
    server, engine = Server(config, task), InProcess(Client(config, task))
    before = server.state.slots["weights"]["w"].clone()
    orders = server.open(1)
    while orders:
        orders = server.close(in_order(orders, engine.exchange(orders)))
    stage, expected = MaskedNoise(magnitude=1.0, noise="sign"), torch.zeros(3)
    for client, target in enumerate(targets):
        noise = stage.draw(3, CodingContext(int(config.identity(), 16), 1, client))
        update = (torch.tensor(target) - before) / 2
        expected += torch.where(update * noise > 0, noise, 0.0) / 2
    assert server.state.slots["weights"]["w"].tolist() == (before + expected).tolist()
    assert expected.abs().sum() > 0


def test_fedmrn_learns_with_a_bit_a_weight(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("fedmrn", "method.uplink=masked-noise 0.05 mask=signed", "task.partition=iid")
    result = ob.run(config, out=tmp_path / "run")
    up, parameters = result.summary["bytes"]["up"], result.summary["parameters"]
    assert 1 < 8 * up / (4 * 3) / parameters < 1.1  # with the report and the envelope
    assert result.summary["accuracy"]["final"] > 0.7


def test_what_masks_is_part_of_a_phase_that_is_reused() -> None:
    weights, noise = {"w": torch.zeros(2)}, {"w": torch.ones(2)}
    ways = [
        None,
        MaskedUpdate(noise, False),
        MaskedUpdate(noise, True),
        MaskedUpdate(noise, False, False),
        MaskedUpdate(weights, False),
    ]
    starts = [Start(weights, {}, masking=masking) for masking in ways]
    assert len({_digest("task", start, torch.arange(3), Training(), 1, 0) for start in starts}) == len(ways)


def test_examples_are_part_of_a_phase_that_is_reused() -> None:
    start = Start({"w": torch.zeros(2)}, {})
    parts = [torch.tensor([0, 1]), torch.tensor([0, 2]), torch.tensor([0])]
    assert len({_digest("task", start, part, Training(), 1, 0) for part in parts}) == len(parts)


@pytest.mark.parametrize(
    "uplink", ["fp32", "mask", "error-feedback | masked-noise 0.01", "small 9 | masked-noise", "sign"]
)
def test_what_is_trained_is_what_is_sent(uplink: str) -> None:
    with pytest.raises(ConfigError, match="parametrization='masked-noise' is trained towards"):
        read_config("fedmrn", [f"method.uplink={uplink}"])
