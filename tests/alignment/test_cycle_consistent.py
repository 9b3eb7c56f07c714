import pytest
import torch
from tests.alignment.nets import convolutional, noisy, perceptron, seeded
from tests.alignment.test_merging import nearness
from torch import nn

import onebasin as ob
from onebasin.alignment import AlignmentError, align
from onebasin.alignment.cycle_consistent import _PairObjective, refine
from onebasin.alignment.models import matching_parameters


def test_the_value_is_the_sum_over_pairs() -> None:
    states = [seeded(convolutional, seed).state_dict() for seed in range(3)]
    spec = ob.find_permutations(convolutional(), torch.zeros(2, 1, 8, 8))
    models = [matching_parameters(spec, state) for state in states]
    objective = _PairObjective(spec, models)
    identity = [{group: torch.eye(size) for group, size in spec.sizes.items()} for _ in states]
    moved = [{name: model[name] for name in objective.occurrences} for model in models]
    assert objective.value(identity) == pytest.approx(nearness(moved), rel=1e-5)


def test_gradients_are_derivatives() -> None:
    states = [seeded(lambda: perceptron(4, 5, 6, 2), seed).state_dict() for seed in range(3)]
    spec = ob.find_permutations(perceptron(4, 5, 6, 2), torch.zeros(2, 4))
    objective = _PairObjective(spec, [matching_parameters(spec, state) for state in states])
    soft = [{g: 0.5 * torch.eye(n) + 0.5 / n for g, n in spec.sizes.items()} for _ in states]
    gradients = objective.gradients(soft)
    for group, place in (("1", (2, 3)), ("3", (0, 4))):
        step = 1e-2
        up = [{g: x.clone() for g, x in each.items()} for each in soft]
        down = [{g: x.clone() for g, x in each.items()} for each in soft]
        up[1][group][place] += step
        down[1][group][place] -= step
        measured = (objective.value(up) - objective.value(down)) / (2 * step)
        assert measured == pytest.approx(float(gradients[1][group][place]), rel=2e-3, abs=1e-4)


def test_permuted_copies_are_aligned() -> None:
    state = seeded(lambda: perceptron(6, 12, 12, 3), 0).state_dict()
    spec = ob.find_permutations(perceptron(6, 12, 12, 3), torch.zeros(2, 6))
    copies = [spec.apply(noisy(state, 0.1, seed), spec.random(seed)) for seed in range(4)]
    found = refine(spec, copies, [spec.identity() for _ in copies])
    aligned = [spec.apply(copy, perms) for copy, perms in zip(copies, found.perms, strict=True)]
    assert found.after > found.before
    for name in state:
        for other in aligned[1:]:
            torch.testing.assert_close(other[name], aligned[0][name], rtol=0, atol=1.0 * float(state[name].std()))


def test_the_result_is_never_worse_than_the_start_and_its_figures_are_correct() -> None:
    states = [seeded(convolutional, seed).state_dict() for seed in range(4)]
    spec = ob.find_permutations(convolutional(), torch.zeros(2, 1, 8, 8))
    start = align(spec, states)
    found = refine(spec, states, start)

    def mean_of_pairs(perms: list[dict[str, torch.Tensor]]) -> float:
        aligned = [spec.apply(state, p) for state, p in zip(states, perms, strict=True)]
        kept = _PairObjective(spec, [matching_parameters(spec, state) for state in aligned]).occurrences
        return nearness([{name: state[name] for name in kept} for state in aligned]) / 6

    assert found.before == pytest.approx(mean_of_pairs(start), rel=1e-5)
    assert found.after == pytest.approx(mean_of_pairs(found.perms), rel=1e-5)
    assert found.after >= found.before


def test_nested_groups_keep_their_permutations() -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(1, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.net(x)
            return out

    states = [seeded(Grouped, seed).state_dict() for seed in range(3)]
    spec = ob.find_permutations(Grouped(), torch.zeros(2, 1, 8, 8))
    assert any(group.within for group in spec.groups.values())
    start = align(spec, states)
    found = refine(spec, states, start)
    assert found.after >= found.before
    for perms, before in zip(found.perms, start, strict=True):
        assert set(perms) == set(before)


def test_invalid_starts_are_refused() -> None:
    state = perceptron(4, 5, 2).state_dict()
    spec = ob.find_permutations(perceptron(4, 5, 2), torch.zeros(2, 4))
    with pytest.raises(AlignmentError, match="2 models and 1 starts; expected two or more, one for each"):
        refine(spec, [state, state], [spec.identity()])
