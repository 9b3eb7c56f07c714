from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import onebasin as ob
from onebasin.core.settings import ConfigError
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.masks.score_masks import HighestScoresMask
from onebasin.learning.parametrization import Parametrization, fold
from onebasin.learning.parametrizations.anchored import Anchored
from onebasin.learning.parametrizations.backbone_mask import BackboneMask
from onebasin.learning.parametrizations.sparse_combination import SparseCombination
from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.methods.aggregation.beta_posterior import BetaPosterior
from onebasin.methods.aggregation_rule import Mean, apply_rule
from onebasin.networks.weights import parameters_of


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def test_only_scores_are_trained_and_weights_have_one_magnitude() -> None:
    model = Supermask().apply(plain(), 3, 0)
    assert [tuple(p.shape) for p in parameters_of(model).values()] == [(6, 8), (3, 6)]
    first = model[0].parametrizations.weight[0].weights
    assert first.abs().unique().tolist() == [pytest.approx((2 / 8) ** 0.5)]
    assert torch.equal(first, Supermask().apply(plain(), 3, 0)[0].parametrizations.weight[0].weights)
    assert not torch.equal(first, Supermask().apply(plain(), 4, 0)[0].parametrizations.weight[0].weights)


def test_weights_are_kept_by_chance_in_training_and_by_the_likelier_case_in_use() -> None:
    model = Supermask().apply(nn.Sequential(nn.Linear(1000, 10)), 0, 0)
    scores = model[0].parametrizations.weight.original
    with torch.no_grad():
        scores.fill_(torch.logit(torch.tensor(0.2)).item())
        scores[0, :3] = 1.0
    torch.manual_seed(0)
    kept = (model[0].weight != 0).float().mean().item()
    assert kept == pytest.approx(0.2, abs=0.02)
    model.eval()
    assert model[0].weight.nonzero().tolist() == [[0, 0], [0, 1], [0, 2]]


def test_gradients_pass_through_the_draw_as_if_it_were_the_chance() -> None:
    model = Supermask().apply(nn.Sequential(nn.Linear(1, 1)), 0, 0)
    model(torch.tensor([[3.0]])).sum().backward()
    parametrization = model[0].parametrizations.weight
    expected = 3 * parametrization[0].weights * 0.25  # the slope of the logistic function at 0
    assert torch.allclose(parametrization.original.grad, expected)


def test_the_highest_scores_are_kept() -> None:
    model = Supermask(kept="highest", density=0.5).apply(nn.Sequential(nn.Linear(4, 1)), 0, 0)
    with torch.no_grad():
        model[0].parametrizations.weight.original.copy_(torch.tensor([[0.1, -5.0, 3.0, 0.2]]))
    assert (model[0].weight != 0).tolist() == [[False, False, True, True]]
    model[0].weight.sum().backward()
    assert torch.equal(model[0].parametrizations.weight.original.grad, model[0].parametrizations.weight[0].weights)


@pytest.mark.parametrize("density", [0.01, 0.3, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_so_many_are_kept_and_of_equal_scores_the_last(density: float, levels: int) -> None:
    scores = torch.randint(0, levels, (40, 5), generator=torch.Generator().manual_seed(levels)).float()
    masked = HighestScoresMask(torch.ones(40, 5), (40, 5), density)(scores).flatten()
    order = scores.flatten().argsort(stable=True)
    count = max(1, round(density * 200))
    assert sorted(masked.nonzero().flatten().tolist()) == sorted(order[200 - count :].tolist())


@pytest.mark.parametrize("chosen", [Supermask(), SparseCombination(compression=3.0)], ids=lambda c: c.kind)
def test_folding_gives_the_masked_weights_in_a_plain_modules_names(chosen: Parametrization) -> None:
    model = chosen.apply(plain(), 1, 0)
    with torch.no_grad():
        for scores in parameters_of(model).values():
            scores.normal_()
    inputs = torch.randn(5, 8)
    expected = model.eval()(inputs)
    folded = fold(model)
    assert folded.state_dict().keys() == plain().state_dict().keys()
    assert torch.equal(folded(inputs), expected)


def test_what_cannot_be_masked_is_named() -> None:
    with pytest.raises(ValueError, match="needs linear or convolution layers"):
        Supermask().apply(nn.Sequential(nn.ReLU()), 0, 0)
    with pytest.raises(ValueError, match=r"0.weight_ih_l0 \[9, 2\] belongs to no layer"):
        Supermask().apply(nn.Sequential(nn.GRU(2, 3), nn.Linear(3, 1)), 0, 0)


@pytest.mark.parametrize("chosen", [Supermask(), SparseCombination(), Anchored(), BackboneMask()], ids=lambda c: c.kind)
def test_a_weight_of_two_layers_is_not_replaced_in_one_of_them(chosen: Parametrization) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    model[1].weight = model[0].weight
    with pytest.raises(ValueError, match=r"0\.weight and 1\.weight are one tensor"):
        chosen.apply(model, 0, 0)
    twice = nn.Linear(4, 4)
    chosen.apply(nn.Sequential(twice, nn.ReLU(), twice, nn.Linear(4, 2)), 0, 0)


def test_the_posterior_is_the_mean_mask_within_its_margin() -> None:
    slots = {"weights": {"w": torch.zeros(3)}}
    after = apply_rule(BetaPosterior(margin=0.1), slots, Mean({"w": torch.tensor([0.0, 0.5, 1.0])}))
    chances = torch.sigmoid(after["weights"]["w"])
    assert chances.tolist() == pytest.approx([0.1, 0.5, 0.9])


def test_fedpm_learns_below_one_bit_a_weight(quick_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    result = ob.run(quick_config("fedpm", "federation.rounds=8"), out=tmp_path / "run")
    parameters = result.summary["parameters"]
    assert parameters == 64 * 64 + 64 * 10
    up = [record["bytes"]["up"] for record in result.history]
    assert 8 * (up[-1] - up[-2]) / 4 / parameters < 0.75 < 8 * up[0] / 4 / parameters < 1.1
    assert result.summary["accuracy"]["final"] > 0.6
    assert result.model is not None
    first, second = (layer.weight for layer in result.model.modules() if isinstance(layer, nn.Linear))
    assert first.unique().numel() == second.unique().numel() == 3  # one magnitude, both signs, and zero


@pytest.mark.parametrize(
    "override",
    ["method.uplink=fp32", "method.combine=average", "method.parametrization=dense", "method.downlink=int8"],
)
def test_choices_that_do_not_go_together_are_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"go together|hold exactly"):
        read_config("fedpm", [override])


def test_masks_follow_and_precede_nothing() -> None:
    with pytest.raises(ConfigError, match="by itself"):
        read_config("fedpm", ["method.downlink=top-k 0.1 | mask"])
