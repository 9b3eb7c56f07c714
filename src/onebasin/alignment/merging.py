"""Merging N models: all are matched to their common average, which moves, until none moves any more.

The barycentre form of MergeMany: Ainsworth et al., Git Re-Basin, ICLR 2023 (arXiv 2209.04836), algorithm 3, where
each model is matched to the mean of the others; matching to the mean of all has the same fixed points and costs one
average a sweep.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from onebasin.alignment.matching import match
from onebasin.alignment.models import AlignmentError, State, check_model
from onebasin.symmetry.spec import Perms, PermutationSpec

MAX_SWEEPS = 20


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
    """Return for each state the permutations into the common order, which is near to the first model's.

    Errors: as `merge`.
    """
    if len(states) < 2:
        raise AlignmentError(f"{len(states)} model was given; it takes two to be aligned")
    for position, state in enumerate(states):
        check_model(spec, state, f"model {position + 1} of {len(states)}")
    first = states[0]
    perms = [spec.identity(), *(match(spec, first, state, seed) for state in states[1:])]
    if len(states) == 2:
        return perms
    aligned = [spec.apply(state, p) for state, p in zip(states, perms, strict=True)]
    for sweep in range(MAX_SWEEPS):
        centre = average(aligned, weights)
        moved = False
        for position, state in enumerate(aligned):
            step = match(spec, centre, state, seed + sweep)
            if _moves(step):
                moved = True
                perms[position] = spec.compose(perms[position], step)
                aligned[position] = spec.apply(state, step)
        if not moved:
            break
    return perms


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
