"""FedPM: the mean of drawn masks is the next probability of each weight."""

import math

import pytest
import torch

from onebasin.methods.aggregation.beta_posterior import BetaPosterior
from onebasin.methods.aggregation_rule import Mean, apply_rule


def test_scores_are_the_log_odds_of_the_share_that_keeps_a_weight() -> None:
    # of four clients 1, 2, 3 keep it: log(1/3), 0, log(3), whatever the scores were
    mean = Mean({"w": torch.tensor([0.25, 0.5, 0.75])})
    for before in (0.0, 7.0):
        after = apply_rule(BetaPosterior(), {"weights": {"w": torch.full((3,), before)}}, mean)["weights"]["w"]
        assert after.tolist() == pytest.approx([-math.log(3), 0.0, math.log(3)], rel=1e-6)


def test_no_weight_is_certain() -> None:
    mean = Mean({"w": torch.tensor([0.0, 1.0])})
    slots = {"weights": {"w": torch.zeros(2)}}
    after = apply_rule(BetaPosterior(margin=0.25), slots, mean)["weights"]["w"]
    assert after.tolist() == pytest.approx([-math.log(3), math.log(3)], rel=1e-6)
    assert torch.sigmoid(apply_rule(BetaPosterior(), slots, mean)["weights"]["w"]).tolist() == pytest.approx(
        [0.01, 0.99], rel=1e-5
    )
