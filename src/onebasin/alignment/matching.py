"""Weight matching: the neuron order in which one model's weights are nearest to another's.

Ainsworth, Hayase, Srinivasa: Git Re-Basin: Merging Models modulo Permutation Symmetries. ICLR 2023 (arXiv 2209.04836),
section 3.2 and algorithm 1: coordinate descent, in which each group of neurons is matched by a linear assignment while
all other groups are fixed, except the groups nested in it (`NestedGroups`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from onebasin.alignment.models import StateDict, check_model, matching_parameters
from onebasin.alignment.nested_groups import NestedGroups
from onebasin.core.seeds import generator
from onebasin.symmetry.groups import Occurrence
from onebasin.symmetry.spec import Perms, PermutationSpec

MAX_SWEEPS = 100
# An assignment must gain more than rounding, or equally good ones could alternate for ever.
LEAST_GAIN = 1e-6


def match(spec: PermutationSpec, reference: StateDict, model: StateDict, seed: int = 0) -> Perms:
    """Return the permutations that bring `model` into the neuron order of `reference`.

    ``spec.apply(model, match(spec, reference, model))`` computes the same function as `model`. Coordinate descent
    converges: no permutation of a single group brings its weights nearer to the reference's.
    seed: determines the order in which groups are visited. Errors: `AlignmentError`.
    """
    check_model(spec, reference, "reference")
    check_model(spec, model, "model")
    return match_parameters(spec, matching_parameters(spec, reference), matching_parameters(spec, model), seed)


def match_parameters(spec: PermutationSpec, reference: StateDict, model: StateDict, seed: int) -> Perms:
    """Match float32 parameters that were checked before; otherwise as `match`."""
    products = _WeightProducts(spec, reference, model)
    found = spec.identity()
    groups, order = list(spec.groups), generator(seed, "matching")
    converged: set[str] = set()
    for _ in range(MAX_SWEEPS):
        for index in torch.randperm(len(groups), generator=order).tolist():
            group = groups[index]
            if group in converged:
                continue
            converged.add(group)
            for each in products.with_inner_groups(group):
                step = best_permutation(products.similarity(each))
                if step is not None:
                    if products.has_inner_groups(each):
                        found = spec.compose(found, {each: step})
                    else:
                        found[each] = found[each].gather(-1, step)
                    converged -= products.permute(each, step)
                elif each == group:
                    break
        if len(converged) == len(groups):
            break
    return found


class _WeightProducts:
    """The model in its present order, and for each group the inner products of its neurons with the reference's.

    These products are nearly the whole cost, so they are computed once. When a group is permuted, the products of its
    neighbours change only by the columns that moved, which are few after the first sweeps.
    """

    def __init__(self, spec: PermutationSpec, reference: StateDict, model: StateDict) -> None:
        self._spec = spec
        self._model = dict(model)
        self._rows_by_tensor: dict[str, list[_GroupRows]] = {name: [] for name in self._model}
        self._similarity: dict[str, Tensor] = {}
        for group in spec.groups:
            total = torch.zeros(spec.shape(group) + spec.shape(group)[-1:])
            for occurrence in spec.occurrences(group):
                if occurrence.tensor in self._model:
                    reference_rows = occurrence.unfold(reference[occurrence.tensor])
                    rows = occurrence.unfold(self._model[occurrence.tensor])
                    total += reference_rows @ rows.mT
                    self._rows_by_tensor[occurrence.tensor].append(_GroupRows(group, occurrence, reference_rows, rows))
            self._similarity[group] = total
        groups_by_tensor = {name: [each.group for each in entries] for name, entries in self._rows_by_tensor.items()}
        self._nested = NestedGroups(spec, groups_by_tensor)

    def similarity(self, group: str) -> Tensor:
        """Inner products of the reference's neurons with the model's: [*within, n, n]."""
        if self.has_inner_groups(group):
            return self._nested.similarity(group, self._row_pairs)
        return self._similarity[group]

    def has_inner_groups(self, group: str) -> bool:
        """Whether other groups are nested in this one."""
        return self._nested.has_inner_groups(group)

    def with_inner_groups(self, group: str) -> Iterator[str]:
        """Yield the group and, outermost first, its inner groups, which must be matched again if it moves."""
        yield group
        yield from self._nested.inner_groups(group)

    def _row_pairs(self, tensor: str, group: str) -> list[tuple[Tensor, Tensor]]:
        """The reference's rows and the model's rows of a group in a tensor, for each axis of the group."""
        return [(entry.reference, entry.rows) for entry in self._rows_by_tensor[tensor] if entry.group == group]

    def permute(self, group: str, step: Tensor) -> set[str]:
        """Permute a group, and return the groups that share a tensor with it and may have to be matched again."""
        own = self._similarity[group]
        self._similarity[group] = own.gather(-1, step.unsqueeze(-2).expand(own.shape))
        neighbours = set()
        changed = [
            name for name, entries in self._rows_by_tensor.items() if any(each.group == group for each in entries)
        ]
        permuted = self._spec.apply({name: self._model[name] for name in changed}, {group: step})
        self._model |= permuted
        for name in changed:
            is_only_axis = sum(entry.group == group for entry in self._rows_by_tensor[name]) == 1
            for entry in self._rows_by_tensor[name]:
                if entry.group != group:
                    neighbours.add(entry.group)
                else:
                    entry.rows = entry.rows.gather(-2, step.unsqueeze(-1).expand(entry.rows.shape))
                    if is_only_axis:  # the permutation has moved only these rows
                        continue
                rows = entry.occurrence.unfold(permuted[name])
                columns = (rows != entry.rows).flatten(0, -2).any(0)
                change = rows[..., columns] - entry.rows[..., columns]
                self._similarity[entry.group] += entry.reference[..., columns] @ change.mT
                entry.rows = rows
        return neighbours


@dataclass
class _GroupRows:
    """A group in one axis of one tensor: its neurons as rows, in the reference and in the model's present order."""

    group: str
    occurrence: Occurrence
    reference: Tensor
    rows: Tensor


def best_permutation(similarity: Tensor) -> Tensor | None:
    """Return the permutations p with the largest sum of ``similarity[..., i, p[i]]``, or None if none gains.

    similarity: [*within, n, n]; result: [*within, n]. The gain is relative to the identity, and must exceed rounding.
    """
    size = similarity.shape[-1]
    flat = similarity.reshape(-1, size, size)
    step = torch.stack([_best_assignment(each) for each in flat])
    gain = flat.gather(-1, step.unsqueeze(-1)).sum() - flat.diagonal(dim1=-2, dim2=-1).sum()
    if float(gain) <= LEAST_GAIN * float(flat.abs().amax(dim=-1).sum()):
        return None
    return step.reshape(similarity.shape[:-1])


def _best_assignment(similarity: Tensor) -> Tensor:
    """The best assignment in one square matrix, by the Jonker-Volgenant algorithm."""
    from scipy.optimize import linear_sum_assignment  # 40 MB, which clients do not need

    _, columns = linear_sum_assignment(similarity.numpy(), maximize=True)
    return torch.from_numpy(columns).long()
