"""Masks of whole neurons and filters: a score, and a bit, of all weights into one; what is trained, sent and exported."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

import onebasin as ob
from onebasin.choices import BackboneMask, Parametrization, Supermask
from onebasin.cli import app
from onebasin.config import RunConfig
from onebasin.exports.rebuilding import masked_layers, rebuild
from onebasin.exports.seed_mask import Description, SeedMask
from onebasin.reading import read_config
from onebasin.tasks.models import built_in
from onebasin.training.parametrization import fold, parametrize
from onebasin.training.pretrained import Pretrained
from onebasin.training.supermask import SCORES, by_neurons
from onebasin.training.weights import buffers_of, parameters_of
from onebasin.updates.catalogue import make_coding
from onebasin.updates.dense import Exact
from onebasin.updates.scene import Scene
from onebasin.wire.error import WireError
from onebasin.wire.layout import Layout

MakeConfig = Callable[..., RunConfig]
NEURONS: tuple[Parametrization, ...] = (
    Supermask(over="neurons"),
    Supermask(kept="highest", over="neurons"),
    BackboneMask(over="neurons"),
)
LENET5 = [(6, 1, 1, 1), (16, 1, 1, 1), (120, 1), (84, 1)]


def name_of(chosen: Parametrization) -> str:
    return f"{chosen.kind} {getattr(chosen, 'kept', '')}".strip()


def scores_of(model: nn.Module) -> list[torch.Tensor]:
    return [value for name, value in parameters_of(model).items() if name.endswith(SCORES)]


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3)
    )


def test_a_layer_has_one_score_a_neuron_or_filter_and_classes_are_not_dropped() -> None:
    def lenet5() -> nn.Module:
        return built_in("lenet5", (1, 28, 28), 10, {})

    random = parametrize(lenet5(), Supermask(over="neurons"), seed=0)
    assert [tuple(scores.shape) for scores in scores_of(random)] == [*LENET5, (10, 84)]
    trained = parametrize(lenet5(), BackboneMask(over="neurons"), seed=0)
    assert [tuple(value.shape) for value in parameters_of(trained).values()] == [*LENET5, (10, 84), (10,)]
    assert sum(math.prod(shape) for shape in LENET5) == 226


def test_random_weights_are_those_of_a_mask_over_weights() -> None:
    one, other = (parametrize(small(), Supermask(over=over), seed=3) for over in ("weights", "neurons"))
    for index in (0, 4, 6):
        assert torch.equal(
            one[index].parametrizations.weight[0].weights, other[index].parametrizations.weight[0].weights
        )


def test_a_neuron_is_drawn_as_a_whole_and_its_gradient_is_the_sum_over_its_weights() -> None:
    model = parametrize(nn.Sequential(nn.Linear(3, 200), nn.Linear(200, 1)), Supermask(over="neurons"), seed=0)
    weights, scores = model[0].parametrizations.weight[0].weights, model[0].parametrizations.weight.original
    with torch.no_grad():
        scores.fill_(torch.logit(torch.tensor(0.2)).item())
        scores[:2] = torch.tensor([[0.0], [1.0]])
    torch.manual_seed(0)
    kept = model[0].weight != 0
    assert all(row in ([True] * 3, [False] * 3) for row in kept.tolist())
    assert 20 < kept[:, 0].sum() < 60
    (model[0].weight * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert scores.grad is not None
    expected = (weights[0] * torch.tensor([1.0, 2.0, 3.0])).sum() * 0.25  # the slope of the logistic function at 0
    assert scores.grad[0].item() == pytest.approx(expected.item())
    model.eval()
    assert model[0].weight.nonzero().tolist() == [[1, 0], [1, 1], [1, 2]]


def test_the_neurons_with_the_highest_scores_are_kept() -> None:
    chosen = Supermask(kept="highest", density=0.5, over="neurons")
    model = parametrize(nn.Sequential(nn.Conv1d(2, 4, 3), nn.Linear(4, 2)), chosen, seed=0)
    assert (model[0].weight != 0).flatten(1).tolist() == [[False] * 6, [False] * 6, [True] * 6, [True] * 6]
    with torch.no_grad():
        model[0].parametrizations.weight.original.copy_(torch.tensor([0.3, -5.0, 0.1, 0.2]).view(4, 1, 1))
    assert (model[0].weight != 0).flatten(1).tolist() == [[True] * 6, [False] * 6, [False] * 6, [True] * 6]
    assert int((model[1].weight != 0).sum()) == 4, "of the last layer's 8 weights"


def test_a_backbones_neuron_is_dropped_but_for_its_bias() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[2.0, -3.0], [5.0, 7.0]]))
        model[0].bias.copy_(torch.tensor([0.5, 0.25]))
    parametrize(model, BackboneMask(score=0.25, over="neurons"), seed=0)
    scores = model[0].parametrizations.weight.original
    assert scores.tolist() == [[0.25], [0.25]]
    model[0].weight.sum().backward()
    assert scores.grad.tolist() == [[-1.0], [12.0]]
    with torch.no_grad():
        scores[0] = 0.0
    assert fold(model)[0](torch.ones(2)).tolist() == [0.5, 12.25]
    assert model[0].weight.tolist() == [[0.0, 0.0], [5.0, 7.0]]


@pytest.mark.parametrize("chosen", NEURONS, ids=name_of)
@given(seed=st.integers(0, 2**32))
def test_folding_leaves_whole_neurons_and_the_same_function(chosen: Parametrization, seed: int) -> None:
    model = parametrize(small(), chosen, seed=1)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for scores in scores_of(model):
            scores.normal_(generator=draws)
    inputs = torch.randn(5, 2, 4, 4, generator=draws)
    expected = model.eval()(inputs)
    folded = fold(model)
    assert folded.state_dict().keys() == small().state_dict().keys()
    assert torch.equal(folded(inputs), expected)
    for layer in (folded[0], folded[4]):
        kept = (layer.weight != 0).flatten(1)
        assert torch.equal(kept.any(1), kept.all(1))


@pytest.mark.parametrize("chosen", NEURONS, ids=name_of)
def test_a_transposed_convolution_is_refused_unless_it_is_the_last_layer(chosen: Parametrization) -> None:
    with pytest.raises(ValueError, match=r"a ConvTranspose2d's \[2, 3, 1, 1\] begin with what comes in: use over='w"):
        parametrize(nn.Sequential(nn.ConvTranspose2d(2, 3, 1), nn.Conv2d(3, 1, 1)), chosen, seed=0)
    parametrize(nn.Sequential(nn.Conv2d(2, 3, 1), nn.ConvTranspose2d(3, 1, 1)), chosen, seed=0)


@pytest.mark.parametrize("chosen", NEURONS, ids=name_of)
def test_a_mask_over_weights_keeps_the_name_of_its_runs(chosen: Parametrization) -> None:
    method = "piggyback" if isinstance(chosen, BackboneMask) else "fedpm"
    task = [f"task.weights={{file='x', digest='{'0' * 32}'}}"] if method == "piggyback" else []
    before = read_config(method, task)
    assert read_config(method, [*task, "method.parametrization.over=weights"]).identity() == before.identity()
    assert read_config(method, [*task, "method.parametrization.over=neurons"]).identity() != before.identity()


@pytest.mark.parametrize(("stage", "size"), [("threshold", 28), ("mask", 28)])
def test_226_bits_travel_in_28_bytes(stage: str, size: int) -> None:
    layout = Layout.of({str(shape): torch.zeros(shape) for shape in LENET5})
    kept = {"(6, 1, 1, 1)": 2, "(16, 1, 1, 1)": 8, "(120, 1)": 77, "(84, 1)": 76}
    change = {name: torch.full(entry.shape, -100.0) for name, entry in zip(kept, layout.entries, strict=True)}
    for name, count in kept.items():
        change[name][:count] = 100.0
    coding = make_coding(stage, layout)
    body, there = coding.send(change, Scene())
    bits = sum(math.log2((len(change[n]) + 1) * math.comb(len(change[n]), count)) for n, count in kept.items())
    assert 190 < bits < 220  # 7 words of 32 bits
    assert len(body) == 4 + size
    received = coding.receive(body, Scene())
    for name, flags in change.items():
        assert torch.equal(received[name], (flags > 0).float())
        assert torch.equal(received[name], there[name])
