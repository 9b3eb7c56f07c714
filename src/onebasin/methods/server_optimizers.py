"""The server's combine step: the weighted mean of what came back, and how it is applied to the model."""

from collections.abc import Callable, Iterable

import torch

from onebasin.core.layout import Layout, Tensors
from onebasin.learning.parametrizations.supermask import is_score
from onebasin.methods.mask_overlap import overlap
from onebasin.methods.settings import (
    Adaptive,
    Average,
    BetaPosterior,
    Combine,
    LeastSquares,
    MajorityVote,
    MeanMask,
    Momentum,
    Nesterov,
    Overlap,
    Robust,
)


class WeightedMean:
    """A running weighted mean of the tensors of one layout, in float64; integer tensors keep their maximum.

    The same values added in the same order give the same bits. Memory: one model, however many are added.
    weight: the sum of those that were added.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._sums: Tensors = {}
        self.weight = 0.0

    def add(self, tensors: Tensors, weight: float) -> None:
        """Add one sender's tensors; `weight` is positive."""
        for entry in self._layout.entries:
            value = tensors[entry.name]
            if not value.is_floating_point():
                known = self._sums.get(entry.name, value)
                self._sums[entry.name] = torch.maximum(known, value)
            elif entry.name in self._sums:
                self._sums[entry.name].add_(value, alpha=weight)
            else:
                self._sums[entry.name] = value.double() * weight
        self.weight += weight

    def change(self, change: Callable[[Tensors], Tensors]) -> None:
        """Have the sum be what `change` makes of it, if there is one."""
        if self.weight:
            self._sums = change(self._sums)

    def result(self) -> Tensors:
        """Return the mean, in the layout's types; `ValueError` when nothing was added."""
        if self.weight <= 0:
            raise ValueError("the mean of no replies")
        return {
            e.name: (self._sums[e.name] / self.weight).to(e.dtype)
            if e.dtype.is_floating_point
            else self._sums[e.name].clone()
            for e in self._layout.entries
        }


def apply_update(
    combine: Combine, slots: dict[str, Tensors], update: Tensors, weight: float = 1.0, part: Tensors | None = None
) -> dict[str, Tensors]:
    """Return the slots after the mean update was applied to `slots["weights"]`; `slots` is not changed.

    weight: of all those together whose mean it is; where all count alike, their number.
    part: which values the round was about, as booleans; the others, and what the optimiser remembers of them, stand
    still (Streaming DiLoCo's fragments have an optimiser each). None for all.
    Least squares looks at whole models, not at updates; where there is nothing else, its mean is applied as it is.

    The optimiser's own memory is in the slots `momentum` and `second`. Sources are on the pages in `methods/`.
    """
    before = dict(slots)
    if isinstance(combine, Momentum | Nesterov | Adaptive):
        before.setdefault("momentum", _filled(slots["weights"], 0.0))
    if isinstance(combine, Adaptive):
        before.setdefault("second", _filled(slots["weights"], combine.tau**2))
    after = _applied(combine, before, update, weight)
    if part is not None:
        for slot in after.keys() & {"weights", "momentum", "second"}:
            after[slot] = {n: torch.where(part[n], after[slot][n], old) for n, old in before[slot].items()}
    return after


def _applied(combine: Combine, slots: dict[str, Tensors], update: Tensors, weight: float) -> dict[str, Tensors]:
    after = dict(slots)
    weights = slots["weights"]
    if isinstance(combine, Average | Robust | LeastSquares):
        rate = 1.0 if isinstance(combine, LeastSquares) else combine.rate
        after["weights"] = _each(weights, lambda n: weights[n] + rate * update[n])
        return after
    if isinstance(combine, BetaPosterior):
        chance = _each(weights, lambda n: update[n].clamp(combine.margin, 1 - combine.margin))
        after["weights"] = _each(weights, lambda n: torch.logit(chance[n]))
        return after
    if isinstance(combine, MeanMask):
        after["weights"] = _each(
            weights, lambda n: combine.score * (2 * update[n] - 1) if is_score(n) else weights[n] + update[n]
        )
        return after
    if isinstance(combine, Overlap):
        after["weights"] = _each(weights, lambda n: overlap(combine, update[n], weight))
        return after
    if isinstance(combine, MajorityVote):
        after["weights"] = _each(weights, lambda n: weights[n] + combine.rate * torch.sign(update[n]))
        return after
    momentum = slots["momentum"]
    if isinstance(combine, Adaptive):
        second = slots["second"]
        m = _each(weights, lambda n: combine.beta1 * momentum[n] + (1 - combine.beta1) * update[n])
        v = _each(weights, lambda n: _second_moment(combine, second[n], update[n] ** 2))
        after["momentum"], after["second"] = m, v
        after["weights"] = _each(weights, lambda n: weights[n] + combine.rate * m[n] / (v[n].sqrt() + combine.tau))
        return after
    velocity = _each(weights, lambda n: combine.beta * momentum[n] + update[n])
    after["momentum"] = velocity
    if isinstance(combine, Momentum):
        after["weights"] = _each(weights, lambda n: weights[n] + combine.rate * velocity[n])
    else:
        after["weights"] = _each(
            weights, lambda n: weights[n] + combine.rate * (update[n] + combine.beta * velocity[n])
        )
    return after


def _second_moment(combine: Adaptive, second: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
    if combine.kind == "adam":
        return combine.beta2 * second + (1 - combine.beta2) * square
    return second - (1 - combine.beta2) * square * torch.sign(second - square)


def _each(names: Iterable[str], value: Callable[[str], torch.Tensor]) -> Tensors:
    return {name: value(name) for name in names}


def _filled(like: Tensors, value: float) -> Tensors:
    return {name: torch.full_like(tensor, value) for name, tensor in like.items()}
