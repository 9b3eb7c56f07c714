import pytest
import torch
from tests.alignment.nets import noisy, perceptron, seeded

import onebasin as ob
from onebasin.alignment import AlignmentError, align, average


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


def test_averages_use_the_weights() -> None:
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


def test_models_that_cannot_be_merged_are_refused() -> None:
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


def nearness(states: list[dict[str, torch.Tensor]]) -> float:
    """The sum over pairs of models of the inner products of their weights."""
    total = 0.0
    for name in states[0]:
        stacked = torch.stack([state[name].double().flatten() for state in states])
        total += float(stacked.sum(0).square().sum() - stacked.square().sum()) / 2
    return total


def test_no_model_can_be_brought_nearer_to_the_others() -> None:
    states = [seeded(lambda: perceptron(8, 16, 16, 3), seed).state_dict() for seed in range(5)]
    spec = ob.find_permutations(perceptron(8, 16, 16, 3), torch.zeros(2, 8))
    aligned = [spec.apply(s, p) for s, p in zip(states, align(spec, states), strict=True)]
    for index, state in enumerate(aligned):
        others = average([other for i, other in enumerate(aligned) if i != index])
        step = ob.match(spec, others, state)
        assert all(torch.equal(step[group], order) for group, order in spec.identity().items())


def test_each_model_is_matched_to_the_sum_of_the_others_alone() -> None:
    """Of three nearly equal models one has two neurons swapped. A sum with this model would keep them swapped."""
    model = seeded(lambda: perceptron(6, 10, 4), 1)
    spec = ob.find_permutations(model, torch.zeros(2, 6))
    state = model.state_dict()
    copies = [noisy(state, 0.3, seed) for seed in range(3)]
    swapped = {"1": torch.tensor([1, 0, *range(2, 10)])}
    copies[2] = spec.apply(copies[2], swapped)
    perms = align(spec, copies)
    assert torch.equal(perms[2]["1"], swapped["1"])


def test_a_dominant_weight_determines_the_order() -> None:
    states = [seeded(lambda: perceptron(8, 16, 3), seed).state_dict() for seed in range(4)]
    spec = ob.find_permutations(perceptron(8, 16, 3), torch.zeros(2, 8))
    merged = ob.merge(spec, states, [1e6, 1, 1, 1])
    for name, value in merged.items():
        torch.testing.assert_close(value, states[0][name], rtol=1e-4, atol=1e-4)
