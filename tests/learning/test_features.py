"""The inputs of a model's last layer, by hand."""

import pytest
import torch
from torch import Tensor, nn

from onebasin.learning.features import features_captured, features_of
from onebasin.learning.pretrained import PretrainedError


def network() -> nn.Module:
    """[a, b] -> relu of [a + b, a - b] -> their sum, twice."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        model[2].weight.fill_(2.0)
    return model


INPUTS = torch.tensor([[3.0, 1.0], [1.0, 3.0]])


def test_features_are_what_the_last_layer_is_given() -> None:
    # [3 + 1, 3 - 1] and [1 + 3, max(1 - 3, 0)]
    assert features_of(network(), INPUTS).tolist() == [[4.0, 2.0], [4.0, 0.0]]


def test_they_are_collected_in_every_pass_until_the_end_of_the_scope() -> None:
    model = network()
    with features_captured(model) as kept:
        assert model(INPUTS).tolist() == [[12.0], [8.0]]
        model(2 * INPUTS)
    model(INPUTS)
    assert [each.tolist() for each in kept] == [[[4.0, 2.0], [4.0, 0.0]], [[8.0, 4.0], [8.0, 0.0]]]


def test_no_hook_is_left_after_an_error() -> None:
    model = network()
    with pytest.raises(RuntimeError), features_captured(model):
        model(torch.zeros(1, 3))
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_other_weights_take_the_place_of_the_models_own() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    doubled = {"0.weight": 2 * before["0.weight"]}
    assert features_of(model, INPUTS, doubled).tolist() == [[8.0, 4.0], [8.0, 0.0]]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_gradients_pass_through_features_to_the_layers_below() -> None:
    # d/dW of the sum of relu(W x): x where it is positive
    model = network()
    features_of(model, INPUTS[:1]).sum().backward()
    assert model[0].weight.grad.tolist() == [[3.0, 1.0], [3.0, 1.0]]
    assert model[2].weight.grad is None


def test_of_a_sequence_there_are_features_at_every_position() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))
    assert features_of(model, torch.zeros(2, 3, dtype=torch.int64)).shape == (2, 3, 4)


def test_a_model_without_a_linear_or_convolution_layer_has_none() -> None:
    class Sum(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.sum(1)

    with pytest.raises(PretrainedError, match="without linear or convolution layers"):
        features_of(Sum(), INPUTS)
