"""The merged model that reproduces the clients' outputs: linear models, for which that has one answer."""

import pytest
import torch
from torch import nn

from onebasin.core.layout import Tensors
from onebasin.methods.aggregation.least_squares import LeastSquares
from onebasin.methods.aggregation_rule import ClientModel, Mean, MergeContext, apply_rule

INPUTS = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


def linear(value: float) -> Tensors:
    return {"weight": torch.full((2, 3), value), "bias": torch.tensor([value, -value])}


def context() -> MergeContext:
    def no_spec() -> None:
        raise AssertionError("nothing is balanced here")

    return MergeContext(nn.Linear(3, 2), lambda: INPUTS, {}, no_spec, 0)  # type: ignore[arg-type,return-value]


def test_linear_models_are_merged_into_their_weighted_mean() -> None:
    # outputs are linear in weights, so the mean of outputs is the output of the mean: (1 * 1 + 3 * 5) / 4 = 4
    models = [ClientModel(0, 1.0, linear(1.0), {}, True), ClientModel(1, 3.0, linear(5.0), {}, True)]
    rule = LeastSquares(targets="mean", agreement=0.0, ridge=1e-6)
    merged = rule.merge(models, context())
    torch.testing.assert_close(merged.state["weight"], torch.full((2, 3), 4.0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(merged.state["bias"], torch.tensor([4.0, -4.0]), rtol=1e-3, atol=1e-3)
    assert merged.complete, "it is the next model as it is"
    assert list(merged.left_out) == []


@pytest.mark.parametrize(
    ("rounds", "merges"),
    [
        (0, {(1, False): True, (9, False): True, (9, True): True}),
        (2, {(1, False): True, (2, True): True, (3, False): False, (3, True): False}),
        ("meetings", {(1, True): True, (2, False): False, (9, True): True}),
    ],
)
def test_it_serves_in_all_rounds_in_the_first_or_where_models_meet(
    rounds: int | str, merges: dict[tuple[int, bool], bool]
) -> None:
    rule = LeastSquares.model_validate({"rounds": rounds})
    assert {key: rule.merges(*key) for key in merges} == merges


def test_only_experts_are_described_by_sketches() -> None:
    assert LeastSquares(targets="experts").uses_sketches
    assert not LeastSquares(targets="mean").uses_sketches


def test_where_it_does_not_serve_the_mean_is_added() -> None:
    slots = {"weights": {"w": torch.tensor([1.0])}}
    assert apply_rule(LeastSquares(), slots, Mean({"w": torch.tensor([4.0])}))["weights"]["w"].tolist() == [5.0]
