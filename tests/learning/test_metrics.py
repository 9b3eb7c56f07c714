"""Scores of models whose predictions are known."""

import math

import pytest
import torch
from tests.learning.toy_data import classification
from torch import nn

from onebasin.learning.data.load import Split
from onebasin.learning.metrics import Score, evaluate, evaluate_by_class, loss_of


class Fixed(nn.Module):
    """Reads its logits off its input, and counts the batches it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches += 1
        return x


def test_loss_is_the_mean_cross_entropy() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    # Probabilities 3/4 and 1/2 of the right classes.
    assert loss_of(logits, torch.tensor([1, 0])).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


def test_sequences_are_flattened() -> None:
    logits = torch.tensor([[[0.0, math.log(3.0)], [0.0, 0.0]]])
    flat = loss_of(logits[0], torch.tensor([1, 0]))
    assert loss_of(logits, torch.tensor([[1, 0]])).item() == flat.item()


@pytest.mark.parametrize(("batch", "batches"), [(1, 4), (3, 2), (4, 1), (1000, 1)])
def test_score_by_hand_in_any_batches(batch: int, batches: int) -> None:
    inputs = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 0.0]])
    model = Fixed()
    score = evaluate(model, Split(inputs, torch.tensor([0, 1, 1, 0])), batch)
    right = math.log1p(math.exp(-2.0))
    assert score.accuracy == 0.75
    assert score.examples == 4
    assert score.loss == pytest.approx((2 * right + (right + 2.0) + math.log(2.0)) / 4, rel=1e-6)
    assert model.batches == batches


def test_every_position_of_a_sequence_counts() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[0, :, 1] = 5.0
    split = Split(logits, torch.tensor([[1, 1, 2], [0, 3, 3]]))
    score = evaluate(Fixed(), split)
    assert (score.examples, score.accuracy) == (6, 3 / 6)


def test_scores_on_a_distribution_of_labels_by_hand() -> None:
    """Class 0: 1 of 2 is right; class 1: 1 of 1; class 2 has no examples."""
    inputs = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 2.0, 0.0]])
    found = evaluate_by_class(Fixed(), Split(inputs, torch.tensor([0, 0, 1])), 3, batch=2)
    assert found.examples.tolist() == [2, 1, 0]
    assert found.correct.tolist() == [1, 1, 0]
    right = math.log(math.exp(2.0) + 2) - 2
    assert found.loss.tolist() == pytest.approx([2 * right + 2, right, 0], rel=1e-6)
    score = found.on(torch.tensor([3, 1, 0]))
    assert score == Score(3 / 4 * 1 / 2 + 1 / 4, pytest.approx(3 / 4 * (right + 1) + right / 4, rel=1e-6), 3)
    assert found.on(torch.tensor([0, 5, 0])) == Score(1.0, pytest.approx(right, rel=1e-6), 1)
    assert found.on(torch.tensor([3, 1, 40])) == score, "nothing is known of class 2"
    assert found.on(torch.tensor([0, 0, 7])) is None
    assert found.on(torch.tensor([0, 0, 0])) is None


def test_on_the_test_splits_own_distribution_the_score_is_the_plain_one() -> None:
    logits = torch.randn(60, 5, generator=torch.Generator().manual_seed(3))
    targets = torch.arange(60) % 5
    plain, found = evaluate(Fixed(), Split(logits, targets)), evaluate_by_class(Fixed(), Split(logits, targets), 5)
    score = found.on(found.examples)
    assert score is not None
    assert (score.accuracy, score.loss, score.examples) == pytest.approx((plain.accuracy, plain.loss, 60))


def test_modes_are_left_as_found() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))
    model.train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = evaluate(model, classification([0, 1, 0]).train)
    assert [model.training, *(module.training for module in model)] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert first == evaluate(model, classification([0, 1, 0]).train)


def test_modes_are_left_as_found_after_an_error() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(RuntimeError):
        evaluate(model, classification([0, 1]).train)
    assert model.training


def test_nan_is_reported() -> None:
    score = evaluate(Fixed(), Split(torch.full((2, 2), float("nan")), torch.tensor([0, 1])))
    assert math.isnan(score.loss)
    assert score == Score(score.accuracy, score.loss, 2)


def test_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="no examples"):
        evaluate(Fixed(), Split(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)))
    with pytest.raises(ValueError, match="batch: 0"):
        evaluate(Fixed(), classification([0, 1]).train, batch=0)
