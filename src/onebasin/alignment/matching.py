"""Matching by weights: the neuron order in which one model's weights lie nearest to another's.

Ainsworth, Hayase, Srinivasa: Git Re-Basin: Merging Models modulo Permutation Symmetries. ICLR 2023 (arXiv 2209.04836),
section 3.2 and algorithm 1: coordinate descent, in which each group of neurons is matched by a linear assignment while
all the others are held fixed, but for those that lie within it (`Nested`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from onebasin.alignment.models import State, check_model, parameters
from onebasin.alignment.nested_groups import Nested
from onebasin.core.seeds import generator
from onebasin.symmetry.groups import Occurrence
from onebasin.symmetry.spec import Perms, PermutationSpec

MAX_SWEEPS = 100
# An assignment must gain more than rounding, or equally good ones could take turns for ever.
LEAST_GAIN = 1e-6


def match(spec: PermutationSpec, reference: State, model: State, seed: int = 0) -> Perms:
    """Return the permutations that bring `model` into the neuron order of `reference`.

    ``spec.apply(model, match(spec, reference, model))`` computes what `model` computes. Its weights are as near to the
    reference's as coordinate descent brings them: no single group can be permuted to bring them nearer.
    seed: the order in which groups are visited. Errors: `AlignmentError`.
    """
    check_model(spec, reference, "reference")
    check_model(spec, model, "model")
    return match_parameters(spec, parameters(spec, reference), parameters(spec, model), seed)


def match_parameters(spec: PermutationSpec, reference: State, model: State, seed: int) -> Perms:
    """As `match`, for float32 parameters that were checked before."""
    products = _Products(spec, reference, model)
    found = spec.identity()
    groups, order = list(spec.groups), generator(seed, "matching")
    settled: set[str] = set()
    for _ in range(MAX_SWEEPS):
        for index in torch.randperm(len(groups), generator=order).tolist():
            group = groups[index]
            if group in settled:
                continue
            settled.add(group)
            for each in products.with_inner(group):
                step = best_order(products.similarity(each))
                if step is not None:
                    if products.holds(each):
                        found = spec.compose(found, {each: step})
                    else:
                        found[each] = found[each].gather(-1, step)
                    settled -= products.permute(each, step)
                elif each == group:
                    break
        if len(settled) == len(groups):
            break
    return found


class _Products:
    """The model as it is permuted so far, and for each group the products of its neurons' weights with the reference's.

    They are nearly all of the cost, so they are computed once; when a group moves, its neighbours' products change by
    what the columns that moved contribute, and few columns move once the first sweeps are done.
    """

    def __init__(self, spec: PermutationSpec, reference: State, model: State) -> None:
        self._spec = spec
        self._model = dict(model)
        self._places: dict[str, list[_Place]] = {name: [] for name in self._model}
        self._similarity: dict[str, Tensor] = {}
        for group in spec.groups:
            total = torch.zeros(spec.shape(group) + spec.shape(group)[-1:])
            for occurrence in spec.occurrences(group):
                if occurrence.tensor in self._model:
                    fixed = occurrence.unfold(reference[occurrence.tensor])
                    rows = occurrence.unfold(self._model[occurrence.tensor])
                    total += fixed @ rows.mT
                    self._places[occurrence.tensor].append(_Place(group, occurrence, fixed, rows))
            self._similarity[group] = total
        self._nested = Nested(spec, {name: [each.group for each in places] for name, places in self._places.items()})

    def similarity(self, group: str) -> Tensor:
        """Sum of products between the reference's neurons and the model's: [*within, n, n]."""
        return self._nested.similarity(group, self._rows) if self.holds(group) else self._similarity[group]

    def holds(self, group: str) -> bool:
        """Whether other groups lie within this one."""
        return self._nested.holds(group)

    def with_inner(self, group: str) -> Iterator[str]:
        """The group, and those to be matched again once it has moved: what lies within it, outermost first."""
        yield group
        yield from self._nested.inside(group)

    def _rows(self, tensor: str, group: str) -> list[tuple[Tensor, Tensor]]:
        return [(place.reference, place.rows) for place in self._places[tensor] if place.group == group]

    def permute(self, group: str, step: Tensor) -> set[str]:
        """Move a group; return the groups that share a tensor with it, whose best order may have changed."""
        own = self._similarity[group]
        self._similarity[group] = own.gather(-1, step.unsqueeze(-2).expand(own.shape))
        neighbours = set()
        touched = [name for name, places in self._places.items() if any(place.group == group for place in places)]
        moved = self._spec.apply({name: self._model[name] for name in touched}, {group: step})
        self._model |= moved
        for name in touched:
            alone = sum(place.group == group for place in self._places[name]) == 1
            for place in self._places[name]:
                if place.group != group:
                    neighbours.add(place.group)
                else:
                    place.rows = place.rows.gather(-2, step.unsqueeze(-1).expand(place.rows.shape))
                    if alone:  # nothing but its rows has moved
                        continue
                rows = place.occurrence.unfold(moved[name])
                columns = (rows != place.rows).flatten(0, -2).any(0)
                change = rows[..., columns] - place.rows[..., columns]
                self._similarity[place.group] += place.reference[..., columns] @ change.mT
                place.rows = rows
        return neighbours


@dataclass
class _Place:
    """A group in one axis of one tensor: the reference's neurons in rows, and the model's as they are now."""

    group: str
    occurrence: Occurrence
    reference: Tensor
    rows: Tensor


def best_order(similarity: Tensor) -> Tensor | None:
    """Return the permutations p with the largest sum of ``similarity[..., i, p[i]]``, None if none beats the identity.

    similarity: [*within, n, n]; result: [*within, n].
    """
    size = similarity.shape[-1]
    flat = similarity.reshape(-1, size, size)
    step = torch.stack([_assign(each) for each in flat])
    gained = flat.gather(-1, step.unsqueeze(-1)).sum() - flat.diagonal(dim1=-2, dim2=-1).sum()
    if float(gained) <= LEAST_GAIN * float(flat.abs().amax(dim=-1).sum()):
        return None
    return step.reshape(similarity.shape[:-1])


def _assign(similarity: Tensor) -> Tensor:
    """Jonker-Volgenant on one square matrix."""
    from scipy.optimize import linear_sum_assignment  # 40 MB, which clients do without

    _, columns = linear_sum_assignment(similarity.numpy(), maximize=True)
    return torch.from_numpy(columns).long()
