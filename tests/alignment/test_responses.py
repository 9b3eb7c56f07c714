from collections.abc import Callable

import pytest
import torch
from tests.alignment.nets import Sequences, convolutional, noisy, perceptron, seeded
from torch import Tensor, nn

import onebasin as ob
from onebasin.alignment import AlignmentError
from onebasin.alignment.responses import Responses, standardised

DRAWS = torch.Generator().manual_seed(4)
CASES: list[tuple[Callable[[], nn.Module], Tensor]] = [
    (lambda: perceptron(16, 40, 30, 5), torch.randn(64, 16, generator=DRAWS)),
    (lambda: perceptron(16, 20, 20, 5, norm=True), torch.randn(64, 16, generator=DRAWS)),
    (convolutional, torch.randn(32, 1, 8, 8, generator=DRAWS)),
    (Sequences, torch.randint(9, (16, 10), generator=DRAWS)),
]


def test_standardised_rows() -> None:
    rows = standardised(torch.tensor([[1.0, 3.0], [5.0, 5.0], [-2.0, 2.0]]))
    half = 0.5**0.5
    torch.testing.assert_close(rows, torch.tensor([[-half, half], [0.0, 0.0], [-half, half]]))


@pytest.mark.parametrize(("build", "probes"), CASES)
def test_responses_move_with_their_neurons(build: Callable[[], nn.Module], probes: Tensor) -> None:
    model = seeded(build, 0)
    spec = ob.find_permutations(model, probes[:2])
    responses = Responses(spec, model, probes, features=50)
    assert not responses.unseen
    state, perms = model.state_dict(), spec.random(3)
    moved = responses.of(spec.apply(state, perms))
    expected = responses.spec.apply(responses.of(state), perms)
    for name, rows in expected.items():
        torch.testing.assert_close(moved[name], rows, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("build", "probes"), CASES)
def test_a_planted_permutation_is_found_from_responses(build: Callable[[], nn.Module], probes: Tensor) -> None:
    model = seeded(build, 0)
    spec = ob.find_permutations(model, probes[:2])
    responses = Responses(spec, model, probes, features=256)
    state = model.state_dict()
    planted = spec.random(1)
    other = noisy(spec.apply(state, planted), 0.05)
    found = ob.match(responses.spec, responses.of(state), responses.of(other))
    undone = spec.compose(planted, found)
    assert all(torch.equal(undone[group], order) for group, order in spec.identity().items())


def test_modules_and_numbers_of_features() -> None:
    model = convolutional()
    probes = torch.randn(8, 1, 8, 8, generator=DRAWS)
    responses = Responses(ob.find_permutations(model, probes), model, probes, features=100)
    assert {name: entry.shape for name, entry in responses.spec.tensors.items()} == {
        "0": (6, 100),
        "4": (12, 100),
        "7": (20, 8),  # not more than the probes
    }
    state = model.state_dict()
    before = {name: value.clone() for name, value in state.items()}
    assert all(rows.shape[-1] in (8, 100) for rows in responses.of(state).values())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training


def test_groups_in_no_output_are_listed() -> None:
    class Stacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = nn.GRU(4, 6, num_layers=2, batch_first=True), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.out(self.rnn(x)[0])
            return out

    probes = torch.randn(8, 5, 4, generator=DRAWS)
    model = Stacked()
    responses = Responses(ob.find_permutations(model, probes), model, probes)
    assert responses.unseen == ["rnn.weight_ih_l0"]


def test_errors() -> None:
    model = perceptron(4, 5, 2)
    spec = ob.find_permutations(model, torch.zeros(2, 4))
    with pytest.raises(AlignmentError, match="features: 0; expected at least 1"):
        Responses(spec, model, torch.zeros(2, 4), features=0)
    with pytest.raises(AlignmentError, match="the model does not take the inputs"):
        Responses(spec, model, torch.zeros(2, 5))
    nothing = perceptron(4, 2)
    with pytest.raises(AlignmentError, match="no module's output shows the neurons"):
        Responses(ob.find_permutations(nothing, torch.zeros(2, 4)), nothing, torch.zeros(2, 4))
    broken = {**model.state_dict(), "1.bias": torch.full((5,), torch.nan)}
    with pytest.raises(AlignmentError, match=r"1\.bias has weights that are NaN"):
        Responses(spec, model, torch.zeros(2, 4)).of(broken)
