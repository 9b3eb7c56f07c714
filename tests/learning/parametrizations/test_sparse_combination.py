"""Weights as sparse combinations of a mask: by hand, in their size, and over rounds."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import onebasin as ob
from onebasin.core.settings import ConfigError
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.parametrizations.sparse_combination import SparseCombination
from onebasin.networks.weights import parameters_of


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def test_so_many_times_fewer_scores_than_weights_are_trained() -> None:
    model = SparseCombination(compression=5.0).apply(plain(), 3, 0)
    assert [tuple(p.shape) for p in parameters_of(model).values()] == [(10,), (4,)]  # 48 / 5 and 18 / 5, rounded up


def test_factors_follow_from_the_seed() -> None:
    one, again, other = (SparseCombination().apply(plain(), seed, 0)[0].eval().weight for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_weights_are_sums_of_factors_where_the_mask_is_one() -> None:
    model = SparseCombination(compression=2, degree=3).apply(nn.Sequential(nn.Linear(4, 2)), 0, 0)
    parametrization = model[0].parametrizations.weight
    with torch.no_grad():
        parametrization.original.copy_(torch.tensor([100.0, -100.0, 100.0, -100.0]))  # as good as certain
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0])
    stage = parametrization[0]
    by_hand = torch.zeros(8)
    for weight in range(8):
        for factor, place in zip(stage.factors[weight], stage.indices[weight], strict=True):
            by_hand[weight] += factor * mask[place]
    torch.testing.assert_close(model[0].weight.flatten(), by_hand)
    torch.testing.assert_close(model.eval()[0].weight.flatten(), by_hand)


def test_gradients_pass_through_the_draw_as_if_it_were_the_chance() -> None:
    model = SparseCombination(compression=2, degree=3).apply(nn.Sequential(nn.Linear(4, 2)), 0, 0)
    parametrization = model[0].parametrizations.weight
    model[0].weight.sum().backward()
    stage = parametrization[0]
    summed = torch.zeros(4).index_add(0, stage.indices.flatten(), stage.factors.flatten())
    torch.testing.assert_close(parametrization.original.grad, 0.25 * summed)  # the logistic function's slope at 0


def test_draws_vary_as_he_et_al_ask_and_their_mean_is_what_is_used() -> None:
    model = SparseCombination(degree=4).apply(nn.Sequential(nn.Linear(100, 400)), 1, 0)
    torch.manual_seed(0)
    draws = torch.stack([model[0].weight.detach() for _ in range(300)])
    assert draws.square().mean().item() == pytest.approx(2 / 100, rel=0.05)
    assert (draws.mean(0) - model.eval()[0].weight).abs().max() < 0.06


def test_what_cannot_be_combined_is_named() -> None:
    with pytest.raises(ValueError, match="sparse combinations need linear or convolution layers"):
        SparseCombination().apply(nn.Sequential(nn.ReLU()), 0, 0)
    with pytest.raises(ValueError, match=r"0.weight_ih_l0 \[9, 2\] belongs to no layer"):
        SparseCombination().apply(nn.Sequential(nn.GRU(2, 3), nn.Linear(3, 1)), 0, 0)
    with pytest.raises(ConfigError, match="compression"):
        read_config("zampling", ["method.parametrization.compression=0.5"])
    with pytest.raises(ConfigError, match="go together"):
        read_config("zampling", ["method.uplink=fp32"])


def test_zampling_learns_with_a_fraction_of_a_bit_a_weight(
    quick_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    result = ob.run(quick_config("zampling", "federation.rounds=10", "task.partition=iid"), out=tmp_path / "run")
    weights = 64 * 64 + 64 * 10
    assert result.summary["parameters"] == weights / 8
    assert 8 * result.summary["bytes"]["up"] / (4 * 10) / weights < 0.3  # an eighth of a bit, and the frame
    assert result.summary["accuracy"]["final"] > 0.6
