"""Masks over a backbone: scores follow the vote, all else is averaged."""

import torch

from onebasin.learning.masks.layers import SCORES
from onebasin.methods.aggregation.mean_mask import MeanMask
from onebasin.methods.aggregation_rule import Mean, apply_rule


def test_scores_are_votes_and_the_parameters_beside_them_are_averaged() -> None:
    # kept by none, half, all of the clients: -1/4, 0, 1/4; the bias is 3 + 0.5
    name = f"fc1.{SCORES}"
    slots = {"weights": {name: torch.tensor([9.0, 9.0, 9.0]), "fc1.bias": torch.tensor([3.0])}}
    mean = Mean({name: torch.tensor([0.0, 0.5, 1.0]), "fc1.bias": torch.tensor([0.5])})
    after = apply_rule(MeanMask(score=0.25), slots, mean)["weights"]
    assert after[name].tolist() == [-0.25, 0.0, 0.25]
    assert after["fc1.bias"].tolist() == [3.5]
