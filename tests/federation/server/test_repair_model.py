"""A merged model whose neurons' statistics become the weighted mean of its parts'."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from onebasin.alignment.repair import Statistics, Way, statistics
from onebasin.core.layout import Tensors
from onebasin.federation.server.repair_model import repaired
from onebasin.methods.aggregation_rule import ClientModel

INPUTS = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def state(seed: int, scale: float = 1.0) -> Tensors:
    draws = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(value.shape, generator=draws) for name, value in network().state_dict().items()}


def client(number: int, weight: float, weights: Tensors) -> ClientModel:
    return ClientModel(number, weight, weights, {}, False)


def after(
    merged: Tensors,
    models: Sequence[ClientModel],
    reported: Mapping[int, Statistics],
    way: Way = "repair",
    inputs: Tensor = INPUTS,
) -> Statistics:
    return statistics(network(), repaired(network(), merged, models, reported, inputs, way), INPUTS)


MODELS = [client(0, 1.0, state(1)), client(1, 3.0, state(2, 5.0))]
FOUND = [statistics(network(), model.weights, INPUTS)["0"] for model in MODELS]


def test_means_and_deviations_become_the_weighted_mean_of_the_parts() -> None:
    found = after(state(3), MODELS, {})
    torch.testing.assert_close(found["0"], (FOUND[0] + 3 * FOUND[1]) / 4, rtol=1e-4, atol=1e-4)


def test_rescaling_sets_deviations_alone() -> None:
    merged = state(3)
    before = statistics(network(), merged, INPUTS)["0"]
    found = after(merged, MODELS, {}, "rescale")["0"]
    torch.testing.assert_close(found[1], (FOUND[0] + 3 * FOUND[1])[1] / 4, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before[1], found[1], rtol=0.1)


def test_what_clients_report_takes_the_place_of_what_is_measured() -> None:
    # two clients: means 1 and 5, deviations 2 and 4, weights 1 and 3: mean 4, deviation 3.5 of each neuron
    reported = {0: {"0": torch.tensor([[1.0] * 4, [2.0] * 4])}, 1: {"0": torch.tensor([[5.0] * 4, [4.0] * 4])}}
    found = after(state(3), MODELS, reported)["0"]
    torch.testing.assert_close(found, torch.tensor([[4.0] * 4, [3.5] * 4]), rtol=1e-4, atol=1e-4)


def test_the_merged_state_given_is_not_changed() -> None:
    merged = state(3)
    before = {name: value.clone() for name, value in merged.items()}
    repaired(network(), merged, MODELS, {}, INPUTS, "repair")
    assert all(torch.equal(merged[name], value) for name, value in before.items())


def test_of_a_client_that_reports_nothing_the_statistics_are_measured() -> None:
    # client 0 reports means of 1 and deviations of 2 with weight 1; those of client 1, weight 3, are measured
    reported = {0: {"0": torch.tensor([[1.0] * 4, [2.0] * 4])}}
    found = after(state(3), MODELS, reported)["0"]
    torch.testing.assert_close(found, (reported[0]["0"] + 3 * FOUND[1]) / 4, rtol=1e-4, atol=1e-4)


def test_a_norm_reset_asks_for_no_statistics() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    merged = dict(model.state_dict())
    outputs = nn.functional.linear(INPUTS, merged["0.weight"], merged["0.bias"])
    found = repaired(model, merged, [], {}, INPUTS, "norm-reset")
    torch.testing.assert_close(found["1.running_mean"], outputs.mean(0), rtol=1e-4, atol=1e-5)
    assert torch.equal(found["0.weight"], merged["0.weight"])
