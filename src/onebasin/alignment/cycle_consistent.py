"""Aligning N models at once: all permutations move together towards the order in which all pairs are nearest.

Crisostomi, Fumero, Baieri, Bernard, Rodola: C2M3: Cycle-Consistent Multi-Model Merging. NeurIPS 2024 (arXiv
2405.17897), section 3: Frank-Wolfe on doubly stochastic matrices into one common order, so that every cycle of maps is
the identity. It starts halfway between the given order and none, whence it finds orders that single steps do not.
Written through the sum of the models, a step costs O(N) instead of O(N^2): the sum over pairs of <Y_i, Y_j> is
(|sum of Y|^2 - sum of |Y_i|^2) / 2, and its derivative at model i needs the sum of the others alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from onebasin.alignment.models import AlignmentError, State, check_model, parameters
from onebasin.symmetry.groups import Occurrence
from onebasin.symmetry.spec import Perms, PermutationSpec

MAX_STEPS = 50
LEAST_GAIN = 1e-5

Soft = dict[str, Tensor]


@dataclass(frozen=True)
class Refined:
    """perms: for each model, into the common order. before, after: the mean inner product of two models."""

    perms: list[Perms]
    before: float
    after: float
    steps: int


def refine(
    spec: PermutationSpec, states: Sequence[State], start: Sequence[Perms], max_steps: int = MAX_STEPS
) -> Refined:
    """Return permutations under which the models are nearer to each other than under `start`, or `start` itself.

    start: for each model, as `align` returns them. Groups within others (dimensions inside heads) stay as they are
    there. Costs minutes where `align` costs seconds: for models that are finished. Errors: `AlignmentError`.
    """
    if len(states) < 2 or len(start) != len(states):
        raise AlignmentError(f"{len(states)} models and {len(start)} starts; expected two or more, one for each")
    for position, state in enumerate(states):
        check_model(spec, state, f"model {position + 1} of {len(states)}")
    aligned = [parameters(spec, spec.apply(state, perms)) for state, perms in zip(states, start, strict=True)]
    space = _Space(spec, aligned)
    identity: list[Soft] = [{g: torch.eye(spec.sizes[g]) for g in space.groups} for _ in states]
    before = space.value(identity)
    soft = [{g: 0.5 * x + 0.5 / len(x) for g, x in each.items()} for each in identity]
    value, steps = space.value(soft), 0
    for _ in range(max_steps):
        steps += 1
        corners = [{g: _corner(slope) for g, slope in slopes.items()} for slopes in space.slopes(soft)]
        step, best = space.best_step(soft, corners)
        if best - value <= LEAST_GAIN * abs(before):
            break
        value = best
        soft = _between(soft, corners, step)
    rounded = [{g: _corner(x) for g, x in each.items()} for each in soft]
    after = space.value(rounded)
    pairs = len(states) * (len(states) - 1) / 2
    if after <= before:
        return Refined([dict(perms) for perms in start], before / pairs, before / pairs, steps)
    moves = [{g: x.argmax(1) for g, x in each.items()} for each in rounded]
    perms = [spec.compose(first, move) for first, move in zip(start, moves, strict=True)]
    return Refined(perms, before / pairs, after / pairs, steps)


class _Space:
    """The models, and how near to each other they are under doubly stochastic matrices."""

    def __init__(self, spec: PermutationSpec, models: Sequence[dict[str, Tensor]]) -> None:
        self.models = models
        self.groups = [group for group in spec.groups if not spec.groups[group].within]
        self.places: dict[str, list[tuple[str, Occurrence]]] = {name: [] for name in models[0]}
        for group in self.groups:
            for place in spec.occurrences(group):
                if place.tensor in self.places:
                    self.places[place.tensor].append((group, place))
        self.places = {name: places for name, places in self.places.items() if places}

    def value(self, soft: Sequence[Soft]) -> float:
        """The sum over pairs of the inner products of the models' mixed tensors."""
        total = 0.0
        for name in self.places:
            mixed = [self._mixed(name, index, each) for index, each in enumerate(soft)]
            summed = torch.stack(mixed).sum(0)
            total += float(summed.double().square().sum())
            total -= sum(float(each.double().square().sum()) for each in mixed)
        return total / 2

    def slopes(self, soft: Sequence[Soft]) -> list[Soft]:
        """The derivative of the value by every matrix."""
        found: list[Soft] = [{} for _ in soft]
        for name, places in self.places.items():
            mixed = [self._mixed(name, index, each) for index, each in enumerate(soft)]
            summed = torch.stack(mixed).sum(0)
            for index, each in enumerate(soft):
                others = summed - mixed[index]
                for number, (group, place) in enumerate(places):
                    rest = self._mixed(name, index, each, leave=number)
                    slope = place.unfold(others) @ place.unfold(rest).mT
                    found[index][group] = found[index].get(group, torch.zeros(())) + slope
        return found

    def best_step(self, soft: Sequence[Soft], corners: Sequence[Soft]) -> tuple[float, float]:
        """Where between the matrices and the corners the value is largest, and what it is there.

        The value is a polynomial of the step, of twice as many degrees as a tensor has mixed places: it is read off at
        that many points and one more, and its best point is found among its stationary ones.
        """
        degree = 2 * max(len(places) for places in self.places.values())
        points = np.linspace(0.0, 1.0, degree + 1)
        values = np.array([self.value(_between(soft, corners, float(point))) for point in points])
        polynomial = np.polynomial.Polynomial.fit(points, values, degree, domain=[0.0, 1.0], window=[0.0, 1.0])
        still = [float(root.real) for root in polynomial.deriv().roots() if abs(root.imag) < 1e-9]
        inside = [0.0, 1.0, *(root for root in still if 0.0 < root < 1.0)]
        step = max(inside, key=lambda point: float(polynomial(point)))
        return step, self.value(_between(soft, corners, step))

    def _mixed(self, name: str, index: int, soft: Mapping[str, Tensor], leave: int | None = None) -> Tensor:
        tensor = self.models[index][name]
        for number, (group, place) in enumerate(self.places[name]):
            if number != leave:
                tensor = _mix(tensor, place, soft[group])
        return tensor


def _mix(tensor: Tensor, place: Occurrence, matrix: Tensor) -> Tensor:
    """New neuron i is the mixture matrix[i] of the old ones, in one place of one axis."""
    table = place.indices.table
    chosen = tensor.index_select(place.axis, table.flatten())
    split = chosen.reshape(*tensor.shape[: place.axis], -1, len(matrix), *tensor.shape[place.axis + 1 :])
    mixed = torch.tensordot(split, matrix, ([place.axis + 1], [1])).movedim(-1, place.axis + 1)
    return tensor.index_copy(place.axis, table.flatten(), mixed.reshape(chosen.shape))


def _between(soft: Sequence[Soft], corners: Sequence[Soft], step: float) -> list[Soft]:
    return [
        {g: (1 - step) * x + step * corner[g] for g, x in each.items()}
        for each, corner in zip(soft, corners, strict=True)
    ]


def _corner(slope: Tensor) -> Tensor:
    """The permutation matrix with the largest inner product."""
    rows, columns = linear_sum_assignment(slope.numpy(), maximize=True)
    corner = torch.zeros_like(slope)
    corner[torch.from_numpy(rows), torch.from_numpy(columns)] = 1.0
    return corner
