"""The median of each value, by hand."""

from typing import cast

import pytest
import torch
from tests.methods.aggregation.models import merged, states

from onebasin.methods.aggregation.median import Median
from onebasin.methods.aggregation_rule import ClientModel, Mean, MergeContext, apply_rule


@pytest.mark.parametrize(("values", "expected"), [((5.0, 1.0, 9.0), 5.0), ((5.0, 1.0, 9.0, 7.0), 6.0)])
def test_a_median_is_the_middle_or_the_mean_of_both_middles(values: tuple[float, ...], expected: float) -> None:
    after, _ = merged(Median(), states(*[[value] for value in values]))
    assert after["w"].tolist() == [expected]


def test_whole_numbers_and_flags_take_the_middle_one() -> None:
    rows = [{"n": torch.tensor(n), "b": torch.tensor([b])} for n, b in ((3, True), (2**62, False), (5, True))]
    after, _ = merged(Median(), rows)
    assert after["n"].item() == 5
    assert after["b"].tolist() == [True]


def test_the_rate_scales_the_step_to_the_merged_model() -> None:
    slots = {"weights": {"w": torch.tensor([1.0])}}
    assert apply_rule(Median(rate=0.5), slots, Mean({"w": torch.tensor([4.0])}))["weights"]["w"].tolist() == [3.0]


def test_models_with_a_weight_of_their_own_count_alike() -> None:
    models = [
        ClientModel(c, w, {"w": torch.tensor([v])}, {}, True)
        for c, w, v in ((0, 1.0, 1.0), (1, 99.0, 9.0), (2, 1.0, 2.0))
    ]
    assert Median().merge(models, cast(MergeContext, None)).state["w"].tolist() == [2.0]
