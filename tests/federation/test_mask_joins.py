"""Clients whose own models, masks over their own random weights, are merged into the global model."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import onebasin as ob
from onebasin.core.settings import ConfigError
from onebasin.core.state import State
from onebasin.federation.client.client import Client
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.load_task import load_task
from onebasin.learning.masks.layers import Maskable
from onebasin.learning.seed_and_mask import SeedAndMask
from onebasin.networks.weights import parameters_of
from onebasin.wire.error import WireError

MakeConfig = Callable[..., RunConfig]
OWN = ("method.start=local", "method.models=masked", "task.partition=iid")
MASKS = (*OWN, "training.warmup=8", "training.warmup_optimizer=adam", "training.warmup_lr=0.1")


def test_a_seed_and_a_mask_determine_all_weights(quick_config: MakeConfig) -> None:
    masks = SeedAndMask(load_task(quick_config("fedavg", *OWN)))
    scores = {name: torch.randn(value.shape) for name, value in parameters_of(masks.model(5)).items()}
    weights = masks.weights(masks.model(5), scores)
    assert list(weights) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert weights["fc1.bias"].unique().tolist() == [0]
    assert weights["fc1.weight"].abs().unique().tolist() == [0, pytest.approx((2 / 64) ** 0.5)]
    body = masks.encode(weights)
    assert len(body) < 4 + (4096 + 640) / 8 + 8  # a head, a bit a weight, two counts
    assert all(torch.equal(value, weights[name]) for name, value in masks.weights_of(5, masks.decode(body)).items())
    other = masks.weights_of(6, masks.decode(body))
    assert torch.equal(other["fc1.weight"] != 0, weights["fc1.weight"] != 0)
    assert not torch.equal(other["fc1.weight"], weights["fc1.weight"])
    for size in range(4):
        with pytest.raises(WireError):
            masks.decode(body[:size])


@pytest.mark.parametrize("frame", ["weights", "activations"])
def test_masked_networks_are_merged_and_then_all_their_weights_are_trained(
    frame: str, quick_config: MakeConfig, tmp_path: Path
) -> None:
    run = ob.run(
        quick_config(
            "fedavg", *MASKS, f"method.frame={frame}", "method.combine=least-squares", "method.combine.rounds=1"
        ),
        out=tmp_path / "run",
    )
    joined, *later = run.history
    assert joined["bytes"]["up"] / 4 < (4096 + 640) / 8 + 100
    assert joined["accuracy"] > 0.6
    assert later[-1]["accuracy"] > 0.85
    assert run.model is not None
    assert all((layer.bias != 0).any() for layer in run.model.modules() if isinstance(layer, Maskable))


def test_a_client_that_joins_late_is_merged(quick_config: MakeConfig, tmp_path: Path) -> None:
    late = ("federation.late=1", "federation.join_round=2", "method.frame=weights")
    run = ob.run(quick_config("fedavg", *MASKS, *late), out=tmp_path / "run")
    assert [record["replies"] for record in run.history] == [3, 4, 4]
    assert not any(record["failures"] for record in run.history)


def test_momenta_of_weights_are_not_used_for_scores(quick_config: MakeConfig) -> None:
    config = quick_config("fedavg", *MASKS, "method.frame=weights", "training.keep_optimizer=true")
    task = load_task(config)
    server, client = Server(config, task), Client(config, task)
    momenta = {f"{name}:momentum_buffer": weight for name, weight in parameters_of(task.workspace()).items()}
    work = client.begin(0, State({"optimizer": momenta}), server.open(1)[0])
    assert client.train(work).report.steps > 0


@pytest.mark.parametrize(
    "override",
    [
        "method.start=shared-seed",
        "method.frame=signatures",
        "method.frame=adopt-one",
        "method.parametrization=low-rank",
    ],
)
def test_choices_that_cannot_send_masks_are_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="models='masked'"):
        read_config("fedavg", [*MASKS, override])


def test_attacks_on_weights_are_refused_with_masks() -> None:
    with pytest.raises(ConfigError, match="every forged mask would keep all"):
        read_config("fedavg", [*MASKS, "method.frame=weights", "federation.attack=sign-flip"])
