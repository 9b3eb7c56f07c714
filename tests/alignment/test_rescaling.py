"""Rescaling of neurons: by hand, with an unchanged function, and where it is impossible."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.alignment.nets import OneLayerTwice, perceptron
from torch import Tensor, nn

import onebasin as ob
from onebasin.alignment import AlignmentError
from onebasin.alignment.forward_hooks import forward
from onebasin.learning.models import built_in


def test_two_neurons_by_hand() -> None:
    """In: (3, 4) and (0, 1), so 25 and 1. Out: 1/5 and 16, so 1/25 and 256. With c = 1/5 and 4, both sides are 1 and
    16."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
    into, out = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[0.2, 16.0]])
    balanced = ob.balance(model, {"0.weight": into, "0.bias": torch.zeros(2), "2.weight": out}, torch.rand(8, 2))
    torch.testing.assert_close(balanced["0.weight"], torch.tensor([[0.6, 0.8], [0.0, 4.0]]))
    torch.testing.assert_close(balanced["2.weight"], torch.tensor([[1.0, 4.0]]))
    assert into.tolist() == [[3.0, 4.0], [0.0, 1.0]], "the given tensors are unchanged"


def sums_of_squares(state: dict[str, Tensor], into: str, out: str) -> tuple[Tensor, Tensor]:
    """Sums of squares on both sides of each neuron between two linear layers."""
    before = state[f"{into}.weight"].square().sum(1) + state[f"{into}.bias"].square()
    return before, state[f"{out}.weight"].square().sum(0)


@given(st.integers(0, 2**31), st.floats(-2, 2))
def test_the_function_stays_and_both_sides_are_equal(seed: int, exponent: float) -> None:
    torch.manual_seed(seed)
    model = perceptron(5, 12, 7, 3)
    state = {key: value * 10**exponent if value.shape[0] == 3 else value for key, value in model.state_dict().items()}
    inputs = torch.randn(20, 5)
    balanced = ob.balance(model, state, inputs)
    torch.testing.assert_close(forward(model, balanced, inputs), forward(model, state, inputs), rtol=1e-3, atol=1e-4)
    layers = [key.removesuffix(".weight") for key in state if key.endswith("weight")]
    for into, out in pairwise(layers):
        before, after = sums_of_squares(balanced, into, out)
        torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-6)
    total = [sum(float(value.square().sum()) for value in each.values()) for each in (balanced, state)]
    assert total[0] <= total[1] * (1 + 1e-6), "the sum of squares is minimal for this function"


def test_a_channel_is_rescaled_through_pooling_and_flattening() -> None:
    model = built_in("lenet5", (1, 28, 28), 10, {})
    state = model.state_dict()
    state["fc3.weight"] = 30 * state["fc3.weight"]
    inputs = torch.randn(6, 1, 28, 28)
    balanced = ob.balance(model, state, inputs)
    torch.testing.assert_close(forward(model, balanced, inputs), forward(model, state, inputs), rtol=1e-3, atol=1e-3)
    into = balanced["conv2.weight"].flatten(1).square().sum(1) + balanced["conv2.bias"].square()
    out = balanced["fc1.weight"].reshape(120, 16, 25).square().sum((0, 2))
    torch.testing.assert_close(into, out, rtol=1e-3, atol=1e-6)


def test_a_tensor_with_two_names_keeps_the_given_one() -> None:
    torch.manual_seed(1)
    model = OneLayerTwice()
    state = {name: value.detach() for name, value in model.named_parameters()}
    state["out.weight"] = 20 * state["out.weight"]
    inputs = torch.randn(9, 4)
    balanced = ob.balance(model, state, inputs)
    assert list(balanced) == list(state)
    torch.testing.assert_close(forward(model, balanced, inputs), forward(model, state, inputs), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_normalised_layers_are_unchanged(norm: str) -> None:
    model = built_in("cnn4", (1, 16, 16), 10, {"norm": norm})
    state = {key: value.clone() for key, value in model.state_dict().items()}
    balanced = ob.balance(model, state, torch.randn(4, 1, 16, 16))
    assert all(torch.equal(balanced[key], state[key]) for key in state)


def test_other_nonlinearities_and_dead_neurons_are_unchanged() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(10, 4)
    curved = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 6), nn.LeakyReLU(), nn.Linear(6, 2))
    state = curved.state_dict()
    balanced = ob.balance(curved, state, inputs)
    assert torch.equal(balanced["0.weight"], state["0.weight"])
    assert not torch.equal(balanced["4.weight"], state["4.weight"])

    plain = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        plain[2].weight[:, 0] = 0.0
        plain[0].weight[1], plain[0].bias[1] = 0.0, 0.0
    balanced = ob.balance(plain, plain.state_dict(), inputs)
    assert torch.equal(balanced["0.weight"][:2], plain[0].weight[:2])
    assert torch.equal(balanced["2.weight"][:, :2], plain[2].weight[:, :2])
    assert all(torch.isfinite(value).all() for value in balanced.values())


def test_weights_that_are_not_finite_and_inputs_that_do_not_fit_are_refused() -> None:
    model = perceptron(3, 4, 2)
    broken = {key: value * float("nan") for key, value in model.state_dict().items()}
    with pytest.raises(AlignmentError, match="state"):
        ob.balance(model, broken, torch.rand(2, 3))
    with pytest.raises(ValueError, match="inputs"):
        ob.balance(model, model.state_dict(), torch.rand(2, 5))
