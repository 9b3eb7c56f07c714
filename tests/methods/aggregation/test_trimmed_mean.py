"""The mean of each value without its ends, by hand."""

import torch
from tests.methods.aggregation.models import merged, states

from onebasin.methods.aggregation.trimmed_mean import TrimmedMean
from onebasin.methods.aggregation_rule import Mean, apply_rule


def test_a_trimmed_mean_leaves_out_the_ends_of_each_value() -> None:
    # 5 values, trim 0.2: one from either end; [1 2 3], [10 20 60], and what is left of the hostile 1e9
    rows = states([1.0, 60.0], [2.0, 10.0], [3.0, 20.0], [1e9, 1e9], [-1e9, -1e9])
    after, left_out = merged(TrimmedMean(trim=0.2), rows)
    assert after["w"].tolist() == [2.0, 30.0]
    assert left_out == []


def test_a_share_is_cut_that_is_no_smaller_than_asked_for() -> None:
    rows = states(*[[float(value)] for value in (0, 1, 2, 3, 4, 100)])
    after, _ = merged(TrimmedMean(trim=0.2), rows)  # 1.2 clients are two
    assert after["w"].tolist() == [2.5]
    after, _ = merged(TrimmedMean(trim=0.1), states(*[[float(value)] for value in range(29)], [1e9]))
    assert after["w"].tolist() == [14.5], "0.1 of 30 are 3, not 4"


def test_the_rate_scales_the_step_to_the_merged_model() -> None:
    slots = {"weights": {"w": torch.tensor([1.0])}}
    assert apply_rule(TrimmedMean(rate=0.5), slots, Mean({"w": torch.tensor([4.0])}))["weights"]["w"].tolist() == [3.0]
