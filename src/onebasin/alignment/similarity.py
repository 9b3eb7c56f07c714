"""How alike the neurons of models are, group by group: what one looks at to see whether a matching is any good."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onebasin.alignment.models import State
from onebasin.symmetry.spec import PermutationSpec


def likeness(spec: PermutationSpec, first: State, second: State) -> dict[str, Tensor]:
    """Return for each group the cosines between the weights of all pairs of neurons: [*within, n, n].

    Entry [i, j] compares neuron i of the first model with neuron j of the second; the diagonal says how well neurons
    match that have the same place. A neuron without weights is alike to none.
    """
    found = {}
    for group in spec.groups:
        one, other = (_unit(spec.unfold(group, state)) for state in (first, second))
        found[group] = one @ other.mT
    return found


def mean_likeness(spec: PermutationSpec, states: Sequence[State]) -> dict[str, float]:
    """Return for each group the mean cosine between neurons of the same place in two models, over all pairs of models.

    Through the sum of the models' unit vectors, so that it costs no more than a look at each.
    """
    count = len(states)
    found = {}
    for group in spec.groups:
        rows = [_unit(spec.unfold(group, state)) for state in states]
        present = torch.stack([row.square().sum(-1) for row in rows]).sum(0)
        pairs = torch.stack(rows).sum(0).square().sum(-1) - present
        found[group] = float(pairs.mean()) / (count * (count - 1))
    return found


def _unit(rows: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(rows.float(), dim=-1, keepdim=True)
    return rows.float() / lengths.clamp_min(1e-20)
