"""Merging N models: each is matched to the mean of the others, until that helps no more; then they are averaged.

MergeMany: Ainsworth et al., Git Re-Basin, ICLR 2023 (arXiv 2209.04836), algorithm 3. Every step raises the sum of inner
products over all pairs. The mean must be of the *others*: one that holds the model itself draws it to where it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onebasin.alignment.matching import match_parameters
from onebasin.alignment.models import AlignmentError, State, check_model, parameters
from onebasin.symmetry.spec import Perms, PermutationSpec

MAX_SWEEPS = 100

LEAST_GAIN = 3e-4
"""The share by which a sweep must bring the models nearer, or it is the last: a few pairs of neurons may take long."""


def merge(
    spec: PermutationSpec, states: Sequence[State], weights: Sequence[float] | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """Return one model: the states brought into one neuron order, then averaged.

    weights: how much each counts (default: equally). Floating-point tensors are averaged, others are the first
    model's. Errors: `AlignmentError` for fewer than two models, other shapes, NaN, or weights that do not fit.
    """
    perms = align(spec, states, weights, seed)
    return average([spec.apply(state, p) for state, p in zip(states, perms, strict=True)], weights)


def align(
    spec: PermutationSpec, states: Sequence[State], weights: Sequence[float] | None = None, seed: int = 0
) -> list[Perms]:
    """Return for each state the permutations into the common order.

    The first model keeps its own order where two are given, and is near to it otherwise. seed: the order in which
    groups are visited. Errors: as `merge`.
    """
    if len(states) < 2:
        raise AlignmentError(f"{len(states)} model was given; it takes two to be aligned")
    for position, state in enumerate(states):
        check_model(spec, state, f"model {position + 1} of {len(states)}")
    share = shares(len(states), weights)
    models = [parameters(spec, state) for state in states]
    perms = [spec.identity() for _ in states]
    sums = _Sums(share)
    sums.add(0, models[0])
    for index in range(1, len(models)):
        perms[index] = match_parameters(spec, sums.beside(None), models[index], seed)
        models[index] = spec.apply(models[index], perms[index])
        sums.add(index, models[index])
    if len(models) == 2:
        return perms
    before = sums.square()
    for sweep in range(1, MAX_SWEEPS + 1):
        moved = False
        for index, model in enumerate(models):
            step = match_parameters(spec, sums.beside(index), model, seed + sweep)
            if _moves(step):
                moved = True
                perms[index] = spec.compose(perms[index], step)
                models[index] = spec.apply(model, step)
                sums.add(index, models[index])
        after = sums.square()
        if not moved or after - before < LEAST_GAIN * after:
            break
        before = after
    return perms


class _Sums:
    """The weighted sum of all models that were added, in float64, with or without one of them."""

    def __init__(self, share: Sequence[float]) -> None:
        self._share = share
        self._models: dict[int, dict[str, Tensor]] = {}
        self._total: dict[str, Tensor] = {}

    def add(self, index: int, model: dict[str, Tensor]) -> None:
        """Count a model in, in place of what it was before."""
        before = self._models.get(index)
        self._models[index] = model
        for name, value in model.items():
            if name not in self._total:
                self._total[name] = torch.zeros_like(value, dtype=torch.float64)
            change = value if before is None else value - before[name]
            self._total[name].add_(change, alpha=self._share[index])

    def square(self) -> float:
        """The squared length of the sum: what the models are like each, and twice what they are like each other."""
        return sum(float(total.square().sum()) for total in self._total.values())

    def beside(self, index: int | None) -> dict[str, Tensor]:
        """The sum of the others, in float32."""
        if index is None:
            return {name: total.float() for name, total in self._total.items()}
        own, share = self._models[index], self._share[index]
        return {name: (total - share * own[name]).float() for name, total in self._total.items()}


def average(states: Sequence[State], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """Return the weighted mean of states that are in one order, summed in float64; integer tensors are the first's."""
    each = shares(len(states), weights)
    mean: dict[str, Tensor] = {}
    for name, value in states[0].items():
        if value.is_floating_point():
            summed = sum(state[name].double() * share for state, share in zip(states, each, strict=True))
            mean[name] = torch.as_tensor(summed).to(value.dtype)
        else:
            mean[name] = value.clone()
    return mean


def shares(count: int, weights: Sequence[float] | None) -> list[float]:
    """Return the weights, equal ones if there are none, with sum 1; `AlignmentError` if they do not fit."""
    given = [1.0] * count if weights is None else [float(weight) for weight in weights]
    total = sum(given)
    if len(given) != count or not total > 0 or min(given) < 0:
        raise AlignmentError(f"weights: {weights}; expected {count} numbers of 0 or more, not all 0")
    return [weight / total for weight in given]


def _moves(perms: Perms) -> bool:
    return any(not bool((p == torch.arange(p.shape[-1])).all()) for p in perms.values())
