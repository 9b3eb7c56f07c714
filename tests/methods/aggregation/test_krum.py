"""The models that are nearest to their neighbours, by hand."""

import math

import torch
from tests.methods.aggregation.models import merged, states

from onebasin.methods.aggregation.krum import Krum, krum_scores, squared_distances
from onebasin.methods.aggregation_rule import Mean, apply_rule


def test_krum_by_hand() -> None:
    # On a line at 0, 1, 3, 7, 100; f = 1: each is judged by the 5 - 1 - 2 = 2 nearest.
    rows = states([0.0], [1.0], [3.0], [7.0], [100.0])
    distances = squared_distances(rows)
    assert distances[0].tolist() == [0.0, 1.0, 9.0, 49.0, 10000.0]
    assert krum_scores(distances, 1) == [1 + 9, 1 + 4, 4 + 9, 16 + 36, 93**2 + 97**2]
    after, left_out = merged(Krum(byzantine=1), rows)
    assert after["w"].tolist() == [1.0]
    assert left_out == [0, 2, 3, 4]
    after, left_out = merged(Krum(byzantine=1, keep=2), rows)  # scores 5 and 10
    assert after["w"].tolist() == [0.5]
    assert left_out == [2, 3, 4]


def test_krum_leaves_out_whoever_sends_infinity() -> None:
    rows = [{"w": torch.tensor([w]), "b": torch.tensor(b)} for w, b in ((0.0, 1.0), (1.0, 1.0), (2.0, 1.0))]
    hostile = {"w": torch.tensor([1.0]), "b": torch.tensor(math.inf)}
    after, left_out = merged(Krum(byzantine=1, keep=3), [hostile, *rows, hostile])
    assert left_out == [0, 4]
    assert (after["w"].item(), after["b"].item()) == (1.0, 1.0)


def test_the_rate_scales_the_step_to_the_merged_model() -> None:
    slots = {"weights": {"w": torch.tensor([1.0])}}
    assert apply_rule(Krum(rate=0.5), slots, Mean({"w": torch.tensor([4.0])}))["weights"]["w"].tolist() == [3.0]
