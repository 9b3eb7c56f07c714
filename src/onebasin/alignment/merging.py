"""Merging of N models: match each to the sum of the others until no match brings them nearer, then average all.

MergeMany: Ainsworth et al., Git Re-Basin, ICLR 2023 (arXiv 2209.04836), algorithm 3. Every step increases the sum of
inner products over all pairs of models. A model must be matched to the sum of the *others*: a sum that contains the
model itself pulls it towards its present order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onebasin.alignment.matching import match_parameters
from onebasin.alignment.models import AlignmentError, StateDict, check_model, matching_parameters
from onebasin.symmetry.spec import Perms, PermutationSpec

MAX_SWEEPS = 100

LEAST_GAIN = 3e-4
"""Relative gain of a sweep below which it is the last, because a few pairs of neurons may take many more sweeps."""


def merge(
    spec: PermutationSpec, states: Sequence[StateDict], weights: Sequence[float] | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """Return one model: the states in one neuron order, averaged.

    weights: of the models in the average (default: equal). Floating-point tensors are averaged; other tensors are those
    of the first model. seed: determines the order in which groups are visited.
    Errors: `AlignmentError` for fewer than two models, other shapes, NaN or infinite weights, or `weights` that do not
    fit.
    """
    perms = align(spec, states, weights, seed)
    return average([spec.apply(state, p) for state, p in zip(states, perms, strict=True)], weights)


def align(
    spec: PermutationSpec, states: Sequence[StateDict], weights: Sequence[float] | None = None, seed: int = 0
) -> list[Perms]:
    """Return for each state the permutations into a common neuron order.

    Of two models, the first keeps its order; of more, the common order stays near to it. weights: as for `merge`. seed:
    determines the order in which groups are visited. Errors: as for `merge`.
    """
    if len(states) < 2:
        raise AlignmentError(f"{len(states)} model was given; it takes two to be aligned")
    for position, state in enumerate(states):
        check_model(spec, state, f"model {position + 1} of {len(states)}")
    normalised_weights = shares(len(states), weights)
    models = [matching_parameters(spec, state) for state in states]
    perms = [spec.identity() for _ in states]
    sums = _WeightedSum(normalised_weights)
    sums.add(0, models[0])
    for index in range(1, len(models)):
        perms[index] = match_parameters(spec, sums.sum_without(None), models[index], seed)
        models[index] = spec.apply(models[index], perms[index])
        sums.add(index, models[index])
    if len(models) == 2:
        return perms
    before = sums.squared_norm()
    for sweep in range(1, MAX_SWEEPS + 1):
        any_changed = False
        for index, model in enumerate(models):
            step = match_parameters(spec, sums.sum_without(index), model, seed + sweep)
            if _changes_order(step):
                any_changed = True
                perms[index] = spec.compose(perms[index], step)
                models[index] = spec.apply(model, step)
                sums.add(index, models[index])
        after = sums.squared_norm()
        if not any_changed or after - before < LEAST_GAIN * after:
            break
        before = after
    return perms


class _WeightedSum:
    """The weighted sum of models in float64, with or without one of them."""

    def __init__(self, normalised_weights: Sequence[float]) -> None:
        self._weights = normalised_weights
        self._models: dict[int, dict[str, Tensor]] = {}
        self._sum: dict[str, Tensor] = {}

    def add(self, index: int, model: dict[str, Tensor]) -> None:
        """Add a model, or replace the former version of the same index."""
        before = self._models.get(index)
        self._models[index] = model
        for name, value in model.items():
            if name not in self._sum:
                self._sum[name] = torch.zeros_like(value, dtype=torch.float64)
            change = value if before is None else value - before[name]
            self._sum[name].add_(change, alpha=self._weights[index])

    def squared_norm(self) -> float:
        """The squared norm of the sum. Permutations change only the inner products between different models in it."""
        return sum(float(total.square().sum()) for total in self._sum.values())

    def sum_without(self, index: int | None) -> dict[str, Tensor]:
        """The sum of all models other than one in float32; None for the sum of all."""
        if index is None:
            return {name: total.float() for name, total in self._sum.items()}
        own, weight = self._models[index], self._weights[index]
        return {name: (total - weight * own[name]).float() for name, total in self._sum.items()}


def average(states: Sequence[StateDict], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """Return the weighted average of states in one neuron order, summed in float64.

    weights: as for `merge`. Integer tensors are those of the first state. Errors: as for `shares`.
    """
    normalised_weights = shares(len(states), weights)
    mean: dict[str, Tensor] = {}
    for name, value in states[0].items():
        if value.is_floating_point():
            parts = zip(states, normalised_weights, strict=True)
            summed = sum(state[name].double() * weight for state, weight in parts)
            mean[name] = torch.as_tensor(summed).to(value.dtype)
        else:
            mean[name] = value.clone()
    return mean


def shares(count: int, weights: Sequence[float] | None) -> list[float]:
    """Return the weights divided by their sum; equal ones for None. Errors: `AlignmentError` if they do not fit."""
    given = [1.0] * count if weights is None else [float(weight) for weight in weights]
    total = sum(given)
    if len(given) != count or not total > 0 or min(given) < 0:
        raise AlignmentError(f"weights: {weights}; expected {count} numbers of 0 or more, not all 0")
    return [weight / total for weight in given]


def _changes_order(perms: Perms) -> bool:
    """Whether any of the permutations is not the identity."""
    return any(not bool((p == torch.arange(p.shape[-1])).all()) for p in perms.values())
