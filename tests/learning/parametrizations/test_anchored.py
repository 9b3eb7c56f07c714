"""Anchors: the same constants at the same places for all, never trained, never sent."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import onebasin as ob
from onebasin.core.seeds import derive
from onebasin.core.settings import ConfigError
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.load_task import load_task
from onebasin.learning.parametrization import fold
from onebasin.learning.parametrizations.anchored import Anchored
from onebasin.networks.weights import parameters_of

MakeConfig = Callable[..., RunConfig]


def plain(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


def test_a_fraction_of_every_weight_is_no_parameter() -> None:
    model = Anchored(fraction=0.25).apply(plain(), 0, 3)
    sizes = {name: tuple(parameter.shape) for name, parameter in parameters_of(model).items()}
    assert sizes == {
        "0.bias": (4,),
        "0.parametrizations.weight.original": (27,),  # 36 without 9
        "1.weight": (4,),
        "1.bias": (4,),
        "4.bias": (5,),
        "4.parametrizations.weight.original": (60,),  # 80 without 20
    }


def test_models_from_different_starts_have_their_anchors_in_common() -> None:
    one, other = (Anchored(fraction=0.5).apply(plain(seed), seed, 3)[4].weight for seed in (1, 2))
    same = one == other
    assert same.float().mean().item() == 0.5
    elsewhere = Anchored(fraction=0.5).apply(plain(1), 1, 4)[4].weight
    assert not (elsewhere[same] == one[same]).all()
    free = plain(1)[4].weight
    assert torch.equal(one[~same], free[~same])  # what is free begins as it would have


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_constants_are_as_large_as_asked(scale: float) -> None:
    model = Anchored(fraction=0.5, scale=scale).apply(nn.Sequential(nn.Linear(300, 200)), 0, 1)
    layer = model[0]
    fixed = torch.ones(200 * 300, dtype=torch.bool)
    fixed[layer.parametrizations.weight[0].trained] = False
    assert layer.weight.flatten()[fixed].std().item() == pytest.approx(scale / (3 * 300) ** 0.5, rel=0.02)


def test_gradients_reach_what_is_free() -> None:
    model = Anchored(fraction=0.5).apply(nn.Sequential(nn.Linear(4, 1)), 0, 1)
    inputs = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    model(inputs).sum().backward()
    parametrization = model[0].parametrizations.weight
    assert parametrization.original.grad.tolist() == inputs[0][parametrization[0].trained].tolist()


def test_folding_gives_plain_weights_in_a_plain_modules_names() -> None:
    model = Anchored(fraction=0.3, scale=2.0).apply(plain(), 1, 2)
    inputs = torch.randn(3, 1, 4, 4)
    expected = model.eval()(inputs)
    folded = fold(model)
    assert folded.state_dict().keys() == plain().state_dict().keys()
    assert torch.equal(folded(inputs), expected)


def test_what_has_no_weights_has_no_anchors() -> None:
    with pytest.raises(ValueError, match="anchors need linear or convolution layers"):
        Anchored().apply(nn.Sequential(nn.ReLU()), 0, 0)


def test_anchors_stay_through_rounds_and_do_not_travel(quick_config: MakeConfig, tmp_path: Path) -> None:
    settings = ("training.weight_decay=0.1", "training.momentum=0.9", "task.partition=iid")
    result = ob.run(quick_config("fedpfn", "method.parametrization.fraction=0.5", *settings), out=tmp_path / "run")
    assert result.model is not None
    task = load_task(result.config)
    start = task.build_model(derive(result.config.seed, "own-init", 0))
    assert result.summary["parameters"] == (4096 + 640) // 2 + 64 + 10
    for began, ended in zip(start, result.model, strict=True):
        if isinstance(began, nn.Linear):
            free = torch.zeros(began.weight.numel(), dtype=torch.bool)
            free[began.parametrizations.weight[0].trained] = True
            moved = (began.weight != ended.weight).flatten()
            assert not moved[~free].any()
            assert moved[free].all()
    sent = 4 * result.summary["parameters"]
    up = result.summary["bytes"]["up"] / (4 * 3)
    assert sent < up < sent + 100


def test_models_with_anchors_are_not_put_into_another_order() -> None:
    for change in ("method.frame=weights", "method.combine=least-squares", "method.repair=norm-reset"):
        with pytest.raises(ConfigError, match="parametrization='anchored' has no neurons' weights that others could"):
            read_config("fedpfn", [change])


@pytest.mark.parametrize("fraction", ["0", "1", "1.5"])
def test_all_or_nothing_is_no_fraction(fraction: str) -> None:
    with pytest.raises(ConfigError, match="fraction"):
        read_config("fedpfn", [f"method.parametrization.fraction={fraction}"])
