"""Selection without labels, distillation, similarity, and interpolation between models."""

import pytest
import torch
from tests.alignment.nets import noisy, perceptron, seeded
from torch import nn

import onebasin as ob
from onebasin.alignment import AlignmentError
from onebasin.alignment.distillation import distil
from onebasin.alignment.forward_hooks import forward
from onebasin.alignment.interpolation import line_between, lines_to_mean
from onebasin.alignment.model_selection import choose, disagreement
from onebasin.alignment.similarity import likeness, mean_likeness

INPUTS = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))


def test_divergence_by_hand() -> None:
    model = nn.Sequential(nn.Linear(1, 2, bias=False))
    state = {"0.weight": torch.zeros(2, 1)}
    teach = torch.tensor([[0.9, 0.1]]).log()
    expected = 0.9 * torch.tensor(0.9 / 0.5).log() + 0.1 * torch.tensor(0.1 / 0.5).log()
    assert disagreement(model, state, torch.ones(1, 1), teach) == pytest.approx(float(expected))


def test_the_nearest_candidate_and_the_first_of_equals_is_chosen() -> None:
    model = seeded(lambda: perceptron(6, 10, 3), 0)
    truth = model.state_dict()
    teach = forward(model, truth, INPUTS)
    broken = {name: value * float("inf") for name, value in truth.items()}
    candidates = {"far": noisy(truth, 1.0), "near": noisy(truth, 0.1), "same": noisy(truth, 0.1), "broken": broken}
    name, scores = choose(model, candidates, INPUTS, teach)
    assert name == "near"
    assert scores["near"] == scores["same"] < scores["far"] < scores["broken"] == float("inf")
    with pytest.raises(AlignmentError, match="candidates: none"):
        choose(model, {}, INPUTS, teach)
    with pytest.raises(AlignmentError, match=r"teach: shape \[200, 2\]; expected \[200, 3\]"):
        disagreement(model, truth, INPUTS, teach[:, :2])


def test_distillation_reduces_the_disagreement_and_repeats() -> None:
    model = seeded(lambda: perceptron(6, 16, 3), 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    teach = 3 * forward(model, seeded(lambda: perceptron(6, 16, 3), 1).state_dict(), INPUTS)
    start = disagreement(model, before, INPUTS, teach)
    taught = distil(model, before, INPUTS, teach, 200, seed=1)
    assert disagreement(model, taught, INPUTS, teach) < 0.3 * start
    again = distil(model, before, INPUTS, teach, 200, seed=1)
    assert all(torch.equal(taught[name], again[name]) for name in taught)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    untouched = distil(model, before, INPUTS, teach, 0)
    assert all(torch.equal(untouched[name], before[name]) for name in before)
    with pytest.raises(AlignmentError, match="teach: 199 rows for 200 inputs"):
        distil(model, before, INPUTS, teach[1:], 5)


def test_likeness() -> None:
    state = seeded(lambda: perceptron(6, 10, 8, 3), 0).state_dict()
    spec = ob.find_permutations(perceptron(6, 10, 8, 3), INPUTS)
    perms = spec.random(2)
    found = likeness(spec, state, spec.apply(state, perms))
    one = found["1"]
    assert one.shape == (10, 10)
    assert float(one.abs().max()) <= 1 + 1e-6
    mean = mean_likeness(spec, [state, state, state])
    assert mean == pytest.approx(dict.fromkeys(mean, 1.0))
    opposite = {name: -value for name, value in state.items()}
    assert mean_likeness(spec, [state, opposite])["1"] == pytest.approx(-1.0)


def test_lines_and_barriers_by_hand() -> None:
    first, second = {"w": torch.tensor([0.0])}, {"w": torch.tensor([2.0])}

    def hill(state: dict[str, torch.Tensor], place: float) -> tuple[float, float]:
        w = float(state["w"])
        return 1.0 + w * (2 - w) + w, w

    line = line_between(first, second, hill, points=5)
    assert line.places == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert line.accuracies == (0.0, 0.5, 1.0, 1.5, 2.0)
    assert line.losses == pytest.approx((1.0, 2.25, 3.0, 3.25, 3.0))
    assert line.barrier == pytest.approx(1.0)
    valley = line_between(first, second, lambda state, place: (1 - hill(state, place)[0], 0.0), points=5)
    assert valley.barrier == 0.0
    assert len(lines_to_mean([first, second], hill)) == 1
    three = lines_to_mean([first, second, {"w": torch.tensor([4.0])}], hill, points=3)
    assert [line.accuracies[-1] for line in three] == pytest.approx([2.0, 2.0, 2.0])
