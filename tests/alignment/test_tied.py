"""Tensors with two names: a state_dict contains both names, named_parameters only the first."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.alignment.nets import OneLayerTwice
from torch import Tensor, nn

import onebasin as ob
from onebasin.alignment.distillation import distil
from onebasin.alignment.forward_hooks import forward
from onebasin.alignment.models import AlignmentError
from onebasin.alignment.repair import statistics


class TiedEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.hidden, self.out = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 9, bias=False)
        self.out.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(torch.relu(self.hidden(self.tokens(x))))
        return out


MERGES: dict[str, Callable[[nn.Module, list[Any], Tensor], dict[str, Tensor]]] = {
    "repair": lambda model, states, inputs: ob.repair(model, ob.merge(spec(model, inputs), states), states, inputs),
    "norm-reset": lambda model, states, inputs: ob.repair(model, states[0], [], inputs, method="norm-reset"),
    "least squares": lambda model, states, inputs: ob.least_squares(model, states, inputs),
    "balance": lambda model, states, inputs: ob.balance(model, states[0], inputs),
    "distil": lambda model, states, inputs: distil(model, states[0], inputs, forward(model, states[1], inputs), 3),
}


def spec(model: nn.Module, inputs: Tensor) -> ob.PermutationSpec:
    return ob.find_permutations(model, inputs)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("kind", [OneLayerTwice, TiedEmbedding])
def test_state_dicts_with_all_names_are_merged_like_those_with_single_names(kind: type[nn.Module], merge: str) -> None:
    torch.manual_seed(0)
    models = [kind(), kind()]
    inputs = torch.randn(50, 4) if kind is OneLayerTwice else torch.randint(0, 9, (50,))
    whole = MERGES[merge](models[0], [model.state_dict() for model in models], inputs)
    once = MERGES[merge](models[0], [dict(model.named_parameters()) for model in models], inputs)
    assert list(whole) == list(models[0].state_dict())
    assert all(torch.equal(whole[name], value) for name, value in once.items())
    for second, first in (("three.weight", "two.weight"), ("out.weight", "tokens.weight")):
        if second in whole and first in whole:
            assert torch.equal(whole[second], whole[first])
            assert whole[second].data_ptr() != whole[first].data_ptr()
    models[1].load_state_dict(whole)
    assert torch.equal(forward(models[0], whole, inputs), models[1](inputs))


def test_different_values_under_two_names_are_refused() -> None:
    model = TiedEmbedding()
    state = model.state_dict() | {"out.weight": torch.zeros(9, 8)}
    with pytest.raises(AlignmentError, match=r"out.weight: has other values than tokens.weight"):
        statistics(model, state, torch.arange(9))


def test_responses_of_a_tied_model() -> None:
    model = TiedEmbedding()
    probes = torch.arange(9)
    found = ob.Responses(spec(model, probes), model, probes).of(model.state_dict())
    assert found


@pytest.mark.parametrize("kind", [OneLayerTwice, TiedEmbedding])
def test_the_model_is_unchanged_by_forward(kind: type[nn.Module]) -> None:
    model = kind()
    before = {name: (parameter, parameter.clone()) for name, parameter in model.named_parameters()}
    inputs = torch.randn(5, 4) if kind is OneLayerTwice else torch.arange(5)
    outputs = forward(model, {name: torch.zeros_like(value) for name, (_, value) in before.items()}, inputs)
    assert torch.equal(outputs, torch.zeros_like(outputs))
    for name, parameter in model.named_parameters():
        assert parameter is before[name][0]
        assert torch.equal(parameter, before[name][1])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AlignmentError, match=r"the model has no tensor 'third.weight'"):
        forward(TiedEmbedding(), {"third.weight": torch.zeros(1)}, torch.arange(3))
