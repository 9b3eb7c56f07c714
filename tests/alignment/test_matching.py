from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.alignment.nets import convolutional, noisy, perceptron, seeded
from tests.symmetry.convolutional_nets import VGG16, Grouped, ResNet20, vgg
from tests.symmetry.sequence_nets import GPT
from torch import Tensor, nn

import onebasin as ob
from onebasin.alignment.matching import best_permutation

CASES: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (lambda: perceptron(16, 40, 40, 40, 5), (3, 16)),
    (lambda: perceptron(16, 30, 30, 5, norm=True), (3, 16)),
    (convolutional, (3, 1, 8, 8)),
]

DEEP: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (lambda: vgg(VGG16), (1, 3, 32, 32)),
    (lambda: ResNet20("A", "batch"), (2, 3, 8, 8)),
    (lambda: ResNet20("A", "group"), (2, 3, 8, 8)),  # the blocks of a norm are permuted, and channels in them
    (lambda: ResNet20("B", "group"), (2, 3, 8, 8)),
    (Grouped, (2, 3, 8, 8)),
]


@pytest.mark.parametrize(("build", "shape"), [*CASES, *DEEP])
def test_a_planted_permutation_is_recovered_under_noise(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model = seeded(build, 0)
    spec = ob.find_permutations(model, torch.zeros(shape))
    _assert_recovered(spec, model)


def test_heads_are_recovered_with_the_neurons_inside_them() -> None:
    model = seeded(GPT, 0)
    spec = ob.find_permutations(model, torch.zeros((2, 6), dtype=torch.long))
    assert any(group.within for group in spec.groups.values())
    _assert_recovered(spec, model)


def _assert_recovered(spec: ob.PermutationSpec, model: nn.Module) -> None:
    state, planted = model.state_dict(), spec.random(1)
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
def test_the_best_permutation_is_found(size: int, seed: int) -> None:
    truth = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    similarity = torch.zeros(size, size)
    similarity[torch.arange(size), truth] = 1.0
    found = best_permutation(similarity)
    if torch.equal(truth, torch.arange(size)):
        assert found is None
    else:
        assert found is not None
        assert torch.equal(found, truth)
