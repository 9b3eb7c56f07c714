"""Similarity of the neurons of models by group, to judge the quality of a matching."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onebasin.alignment.models import StateDict
from onebasin.symmetry.spec import PermutationSpec


def likeness(spec: PermutationSpec, first: StateDict, second: StateDict) -> dict[str, Tensor]:
    """Return for each group the cosine similarity of the weights of all pairs of neurons: [*within, n, n].

    Entry [i, j] compares neuron i of the first model with neuron j of the second; the diagonal compares neurons at the
    same position. A neuron without weights has similarity 0 to all others.
    """
    found = {}
    for group in spec.groups:
        first_rows, second_rows = (_unit_rows(spec.unfold(group, state)) for state in (first, second))
        found[group] = first_rows @ second_rows.mT
    return found


def mean_likeness(spec: PermutationSpec, states: Sequence[StateDict]) -> dict[str, float]:
    """Return for each group the mean cosine similarity of neurons at the same position, over all pairs of models.

    The cost is linear in the number of models, because it uses the sum of their unit vectors.
    """
    count = len(states)
    found = {}
    for group in spec.groups:
        rows = [_unit_rows(spec.unfold(group, state)) for state in states]
        present = torch.stack([row.square().sum(-1) for row in rows]).sum(0)
        pairs = torch.stack(rows).sum(0).square().sum(-1) - present
        found[group] = float(pairs.mean()) / (count * (count - 1))
    return found


def _unit_rows(rows: Tensor) -> Tensor:
    """Rows divided by their norm."""
    lengths: Tensor = torch.linalg.vector_norm(rows.float(), dim=-1, keepdim=True)
    return rows.float() / lengths.clamp_min(1e-20)
