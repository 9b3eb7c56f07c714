from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import onebasin as ob
from onebasin.alignment import AlignmentError, align, average
from onebasin.alignment.matching import best_order


def perceptron(*sizes: int, norm: bool = False) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes[:-1]):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 12, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12 * 16, 20),
        nn.ReLU(),
        nn.Linear(20, 4),
    )


CASES: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (lambda: perceptron(16, 40, 40, 40, 5), (3, 16)),
    (lambda: perceptron(16, 30, 30, 5, norm=True), (3, 16)),
    (convolutional, (3, 1, 8, 8)),
]


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def noisy(state: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(9)
    return {
        name: value + share * value.std() * torch.randn(value.shape, generator=draws)
        if value.is_floating_point() and value.numel() > 1 and float(value.std()) > 0
        else value
        for name, value in state.items()
    }


@pytest.mark.parametrize(("build", "shape"), CASES)
def test_a_planted_permutation_is_recovered_under_noise(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model = seeded(build, 0)
    spec = ob.find_permutations(model, torch.zeros(shape))
    state = model.state_dict()
    planted = spec.random(1)
    found = ob.match(spec, reference=state, model=noisy(spec.apply(state, planted), 0.3))
    undone = spec.compose(planted, found)
    assert spec.groups
    assert all(torch.equal(undone[group], order) for group, order in spec.identity().items())


@pytest.mark.parametrize(("build", "shape"), CASES)
def test_a_matched_model_computes_the_same(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    a, b = seeded(build, 0).double().eval(), seeded(build, 1).double().eval()
    inputs = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    spec = ob.find_permutations(b, inputs)
    before = b(inputs)
    state = b.state_dict()
    matched = spec.apply(state, ob.match(spec, a.state_dict(), state))
    b.load_state_dict(matched)
    torch.testing.assert_close(b(inputs), before, rtol=1e-10, atol=1e-12)


def test_matching_is_a_fixed_point_and_brings_models_nearer() -> None:
    a, b = (seeded(lambda: perceptron(8, 20, 20, 3), seed) for seed in (0, 1))
    spec = ob.find_permutations(a, torch.zeros(2, 8))
    first, second = a.state_dict(), b.state_dict()
    matched = spec.apply(second, ob.match(spec, first, second))
    again = ob.match(spec, first, matched)
    assert all(torch.equal(again[group], order) for group, order in spec.identity().items())

    def distance(x: dict[str, Tensor], y: dict[str, Tensor]) -> float:
        return sum(float((x[n] - y[n]).square().sum()) for n in x)

    assert distance(first, matched) < distance(first, second)


@given(st.integers(1, 8), st.integers(0, 10**6))
def test_the_best_order_is_the_best(size: int, seed: int) -> None:
    truth = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    similarity = torch.zeros(size, size)
    similarity[torch.arange(size), truth] = 1.0
    found = best_order(similarity)
    if torch.equal(truth, torch.arange(size)):
        assert found is None
    else:
        assert found is not None
        assert torch.equal(found, truth)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_permuted_copies_merge_into_the_model_itself(count: int) -> None:
    model = seeded(lambda: perceptron(16, 30, 30, 5), 0)
    spec = ob.find_permutations(model, torch.zeros(2, 16))
    state = model.state_dict()
    copies = [state, *(spec.apply(state, spec.random(seed)) for seed in range(1, count))]
    merged = ob.merge(spec, copies)
    for name, value in state.items():
        torch.testing.assert_close(merged[name], value, rtol=1e-6, atol=1e-7)
    assert len(align(spec, copies)) == count


def test_weights_count() -> None:
    states = [
        {"w": torch.tensor([0.0, 4.0]), "n": torch.tensor(1)},
        {"w": torch.tensor([4.0, 0.0]), "n": torch.tensor(9)},
    ]
    assert average(states, [3, 1])["w"].tolist() == [1.0, 3.0]
    assert average(states)["w"].tolist() == [2.0, 2.0]
    assert average(states)["n"].item() == 1
    for wrong in ([1.0], [0.0, 0.0], [-1.0, 2.0], [float("nan"), 1.0]):
        with pytest.raises(AlignmentError, match="expected 2 numbers of 0 or more"):
            average(states, wrong)


def test_what_cannot_be_merged_is_named() -> None:
    model = seeded(lambda: perceptron(16, 30, 5), 0)
    spec = ob.find_permutations(model, torch.zeros(2, 16))
    state = model.state_dict()
    with pytest.raises(AlignmentError, match="1 model was given; it takes two"):
        ob.merge(spec, [state])
    other = seeded(lambda: perceptron(16, 31, 5), 0).state_dict()
    with pytest.raises(AlignmentError, match=r"model 2 of 2: 1\.weight has shape \[31, 16\]; expected \[30, 16\]"):
        ob.merge(spec, [state, other])
    with pytest.raises(AlignmentError, match=r"model 2 of 2: has no tensor '3\.bias'"):
        ob.merge(spec, [state, {name: value for name, value in state.items() if name != "3.bias"}])
    broken = {**state, "1.bias": torch.full((30,), torch.nan)}
    with pytest.raises(AlignmentError, match=r"model: 1\.bias has weights that are NaN or infinite"):
        ob.match(spec, state, broken)
