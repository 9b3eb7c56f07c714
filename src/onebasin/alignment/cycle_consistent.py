"""Cycle-consistent alignment of N models: all permutations are optimised together, over all pairs of models.

Crisostomi, Fumero, Baieri, Bernard, Rodola: C2M3: Cycle-Consistent Multi-Model Merging. NeurIPS 2024 (arXiv
2405.17897), section 3: Frank-Wolfe on doubly stochastic matrices into one common order, so that every cycle of maps is
the identity. It starts at the mean of the given permutations and the uniform matrix, from where it finds orders that
single steps do not find. With the sum of the models, a step costs O(N) instead of O(N^2): the sum over pairs of <Y_i,
Y_j> is (|sum of Y|^2 - sum of |Y_i|^2) / 2, and its derivative at model i needs only the sum of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from onebasin.alignment.models import AlignmentError, StateDict, check_model, matching_parameters
from onebasin.symmetry.groups import Occurrence
from onebasin.symmetry.spec import Perms, PermutationSpec

MAX_STEPS = 50
LEAST_GAIN = 1e-5

SoftPermutations = dict[str, Tensor]
"""A doubly stochastic matrix [n, n] for each group."""


@dataclass(frozen=True)
class Refined:
    """The result of `refine`.

    perms: for each model, into the common order. before, after: the mean inner product of two models. steps: of
    Frank-Wolfe.
    """

    perms: list[Perms]
    before: float
    after: float
    steps: int


def refine(
    spec: PermutationSpec, states: Sequence[StateDict], start: Sequence[Perms], max_steps: int = MAX_STEPS
) -> Refined:
    """Return permutations under which the models are nearer to each other than under `start`, or `start` itself.

    start: for each model, as `align` returns them. Nested groups (dimensions inside heads) keep their permutations of
    `start`. This takes minutes where `align` takes seconds, so it suits finished models.
    Errors: `AlignmentError`.
    """
    if len(states) < 2 or len(start) != len(states):
        raise AlignmentError(f"{len(states)} models and {len(start)} starts; expected two or more, one for each")
    for position, state in enumerate(states):
        check_model(spec, state, f"model {position + 1} of {len(states)}")
    aligned = [matching_parameters(spec, spec.apply(state, perms)) for state, perms in zip(states, start, strict=True)]
    objective = _PairObjective(spec, aligned)
    identity: list[SoftPermutations] = [{g: torch.eye(spec.sizes[g]) for g in objective.groups} for _ in states]
    before = objective.value(identity)
    soft = [{g: 0.5 * x + 0.5 / len(x) for g, x in each.items()} for each in identity]
    value, steps = objective.value(soft), 0
    for _ in range(max_steps):
        steps += 1
        gradients = objective.gradients(soft)
        vertices = [{g: _best_permutation_matrix(x) for g, x in each.items()} for each in gradients]
        step, best = objective.line_search(soft, vertices)
        if best - value <= LEAST_GAIN * abs(before):
            break
        value = best
        soft = _interpolate(soft, vertices, step)
    rounded = [{g: _best_permutation_matrix(x) for g, x in each.items()} for each in soft]
    after = objective.value(rounded)
    pairs = len(states) * (len(states) - 1) / 2
    if after <= before:
        return Refined([dict(perms) for perms in start], before / pairs, before / pairs, steps)
    moves = [{g: x.argmax(1) for g, x in each.items()} for each in rounded]
    perms = [spec.compose(first, move) for first, move in zip(start, moves, strict=True)]
    return Refined(perms, before / pairs, after / pairs, steps)


class _PairObjective:
    """The sum over pairs of models of their inner products, as a function of doubly stochastic matrices."""

    def __init__(self, spec: PermutationSpec, models: Sequence[dict[str, Tensor]]) -> None:
        self.models = models
        self.groups = [group for group in spec.groups if not spec.groups[group].within]
        self.occurrences: dict[str, list[tuple[str, Occurrence]]] = {name: [] for name in models[0]}
        for group in self.groups:
            for occurrence in spec.occurrences(group):
                if occurrence.tensor in self.occurrences:
                    self.occurrences[occurrence.tensor].append((group, occurrence))
        self.occurrences = {name: occurrences for name, occurrences in self.occurrences.items() if occurrences}

    def value(self, soft: Sequence[SoftPermutations]) -> float:
        """The sum over pairs of the inner products of the mixed tensors."""
        total = 0.0
        for name in self.occurrences:
            mixed = [self._mixed(name, index, each) for index, each in enumerate(soft)]
            summed = torch.stack(mixed).sum(0)
            total += float(summed.double().square().sum())
            total -= sum(float(each.double().square().sum()) for each in mixed)
        return total / 2

    def gradients(self, soft: Sequence[SoftPermutations]) -> list[SoftPermutations]:
        """The derivative of the value with respect to each matrix."""
        gradients: list[SoftPermutations] = [{} for _ in soft]
        for name, occurrences in self.occurrences.items():
            mixed = [self._mixed(name, index, each) for index, each in enumerate(soft)]
            summed = torch.stack(mixed).sum(0)
            for index, each in enumerate(soft):
                others = summed - mixed[index]
                for number, (group, occurrence) in enumerate(occurrences):
                    rest = self._mixed(name, index, each, skip=number)
                    gradient = occurrence.unfold(others) @ occurrence.unfold(rest).mT
                    gradients[index][group] = gradients[index].get(group, torch.zeros(())) + gradient
        return gradients

    def line_search(
        self, soft: Sequence[SoftPermutations], vertices: Sequence[SoftPermutations]
    ) -> tuple[float, float]:
        """The step between the matrices and the vertices with the largest value, and that value.

        The value is a polynomial in the step, of degree twice the largest number of mixed axes of a tensor. It is
        interpolated from one more point than its degree, and the best of its stationary points and ends is taken.
        """
        degree = 2 * max(len(occurrences) for occurrences in self.occurrences.values())
        points = np.linspace(0.0, 1.0, degree + 1)
        values = np.array([self.value(_interpolate(soft, vertices, float(point))) for point in points])
        polynomial = np.polynomial.Polynomial.fit(points, values, degree, domain=[0.0, 1.0], window=[0.0, 1.0])
        stationary = [float(root.real) for root in polynomial.deriv().roots() if abs(root.imag) < 1e-9]
        candidates = [0.0, 1.0, *(root for root in stationary if 0.0 < root < 1.0)]
        step = max(candidates, key=lambda point: float(polynomial(point)))
        return step, self.value(_interpolate(soft, vertices, step))

    def _mixed(self, name: str, index: int, soft: Mapping[str, Tensor], skip: int | None = None) -> Tensor:
        """A model's tensor, mixed along all axes of its groups, except the occurrence with the number `skip`."""
        tensor = self.models[index][name]
        for number, (group, occurrence) in enumerate(self.occurrences[name]):
            if number != skip:
                tensor = _mix(tensor, occurrence, soft[group])
        return tensor


def _mix(tensor: Tensor, occurrence: Occurrence, matrix: Tensor) -> Tensor:
    """Replace neuron i of a group in one axis by the combination of all its neurons with the weights matrix[i]."""
    table = occurrence.indices.table
    chosen = tensor.index_select(occurrence.axis, table.flatten())
    split = chosen.reshape(*tensor.shape[: occurrence.axis], -1, len(matrix), *tensor.shape[occurrence.axis + 1 :])
    mixed = torch.tensordot(split, matrix, ([occurrence.axis + 1], [1])).movedim(-1, occurrence.axis + 1)
    return tensor.index_copy(occurrence.axis, table.flatten(), mixed.reshape(chosen.shape))


def _interpolate(
    soft: Sequence[SoftPermutations], vertices: Sequence[SoftPermutations], step: float
) -> list[SoftPermutations]:
    """The matrices at a step from 0 to 1 on the way to the vertices."""
    return [
        {g: (1 - step) * x + step * vertex[g] for g, x in each.items()}
        for each, vertex in zip(soft, vertices, strict=True)
    ]


def _best_permutation_matrix(scores: Tensor) -> Tensor:
    """The permutation matrix with the largest inner product with the scores."""
    rows, columns = linear_sum_assignment(scores.numpy(), maximize=True)
    matrix = torch.zeros_like(scores)
    matrix[torch.from_numpy(rows), torch.from_numpy(columns)] = 1.0
    return matrix
