"""Where masks meet, and what of a client's own they turn, by hand."""

import torch

from onebasin.methods.aggregation.overlap import Overlap, agreed_signs, personal_scores, undecided_signs
from onebasin.methods.aggregation_rule import Mean, apply_rule


def test_two_clients_meet_where_both_keep_a_weight() -> None:
    masks = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
    assert agreed_signs(Overlap(), masks.mean(0), 2).tolist() == [1, 0, 0, 0]
    assert agreed_signs(Overlap(), masks[0], 1).tolist() == [0, 0, 0, 0], "nobody is met alone"


def test_what_several_keep_goes_by_the_share_of_all() -> None:
    kept = torch.tensor([0.0, 1.0, 2.0, 5.0, 6.0, 10.0]) / 10
    assert agreed_signs(Overlap(), kept, 10).tolist() == [0, 0, -1, -1, 1, 1]
    assert agreed_signs(Overlap(share=0.0), kept, 10).tolist() == [0, 0, 1, 1, 1, 1]


def test_a_client_goes_on_from_its_own_scores_unless_they_disagree() -> None:
    common, own = torch.tensor([1.0, 1.0, -1.0, -1.0, 0.0, 0.0]), torch.tensor([2.0, -2.0, 2.0, -2.0, 2.0, -2.0])
    after = personal_scores(Overlap(score=0.5), {"a": common}, {"a": own})["a"]
    assert after.tolist() == [2.0, 0.5, -0.5, -2.0, 2.0, -2.0]


def test_a_step_replaces_the_signs_of_all_rounds_before() -> None:
    # of 4 clients 4, 2, 3, 1 keep a weight: kept by more than half; met but by no majority; kept; nobody met
    slots = {"weights": {"w": torch.tensor([-1.0, 1.0, 0.0, 1.0])}}
    mean = Mean({"w": torch.tensor([1.0, 0.5, 0.75, 0.25])}, weight=4.0)
    assert apply_rule(Overlap(), slots, mean)["weights"]["w"].tolist() == [1.0, -1.0, 1.0, 0.0]


def test_before_anybody_has_met_nothing_is_in_common() -> None:
    scores = {"w": torch.tensor([2.0, -1.0])}
    signs = undecided_signs(scores)
    assert signs["w"].tolist() == [0.0, 0.0]
    assert torch.equal(personal_scores(Overlap(), signs, scores)["w"], scores["w"])
