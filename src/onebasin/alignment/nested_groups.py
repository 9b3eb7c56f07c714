"""Similarity of groups that contain other groups, such as attention heads with the neurons inside them.

An attention head, or a block of a group normalisation, can be permuted with others while its own neurons are permuted
too. As long as the inner neurons are in different orders, two equal heads show no similarity, and coordinate descent
over single groups does not move. Therefore the similarity of two heads is the value of the best assignment of the
neurons inside them: an assignment problem of assignment problems, solved from the innermost group outwards.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from onebasin.symmetry.spec import PermutationSpec

RowPairs = Callable[[str, str], Sequence[tuple[Tensor, Tensor]]]
"""For a tensor and a group: the reference's and the model's neurons, [*within, n, rest] each, at each occurrence."""


class NestedGroups:
    """The nesting of groups, and for each tensor the innermost group whose assignment takes it into account."""

    def __init__(self, spec: PermutationSpec, groups_by_tensor: Mapping[str, Sequence[str]]) -> None:
        """groups_by_tensor: the names of the groups in each tensor."""
        self._spec = spec
        self._children = {
            name: [other.name for other in spec.groups.values() if other.within == (*group.within, name)]
            for name, group in spec.groups.items()
        }
        self._tensors_by_innermost = {
            name: self._group_tensors(name, groups_by_tensor) for name, children in self._children.items() if children
        }

    def has_inner_groups(self, group: str) -> bool:
        """Whether other groups are nested in this one."""
        return group in self._tensors_by_innermost

    def inner_groups(self, group: str) -> Iterator[str]:
        """Yield the groups nested in this one, outermost first."""
        for child in self._children[group]:
            yield child
            yield from self.inner_groups(child)

    def similarity(self, group: str, rows: RowPairs) -> Tensor:
        """Inner products of the reference's and the model's neurons, with inner groups assigned: [*within, n, n]."""
        shape = self._spec.shape(group)
        return self._pair_products(group, group, rows).reshape(*shape, shape[-1])

    def _pair_products(self, group: str, top: str, rows: RowPairs) -> Tensor:
        """Inner products of a group's neurons for each pair of blocks: [outer, blocks, blocks, n, n].

        The blocks are the indices, from `top` inwards, that the group is nested in. The products include the value of
        the best assignment of each inner group.
        """
        shape = self._spec.shape(group)
        shared = len(self._spec.groups[top].within)
        outer, blocks, size = math.prod(shape[:shared]), math.prod(shape[shared:-1]), shape[-1]
        products = torch.zeros(outer, blocks * size, blocks * size)
        for tensor in self._tensors_by_innermost[top].get(group, ()):
            for reference, model in rows(tensor, group):
                products += reference.reshape(*products.shape[:2], -1) @ model.reshape(*products.shape[:2], -1).mT
        for child in self._children[group]:
            products += _best_assignment_values(self._pair_products(child, top, rows))
        return products.reshape(outer, blocks, size, blocks, size).transpose(2, 3)

    def _group_tensors(self, top: str, groups_by_tensor: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """The tensors that contain `top`, by the innermost group on the only chain of nested groups in the tensor."""
        tensors: dict[str, list[str]] = {}
        for tensor, groups in groups_by_tensor.items():
            if top not in groups:
                continue
            group = top
            while len(inner := [c for c in self._children[group] if {c, *self.inner_groups(c)} & set(groups)]) == 1:
                group = inner[0]
            tensors.setdefault(group, []).append(tensor)
        return tensors


def _best_assignment_values(table: Tensor) -> Tensor:
    """The value of the best assignment in each of the matrices in the last two dimensions."""
    from scipy.optimize import linear_sum_assignment  # 40 MB, which clients do not need

    size = table.shape[-1]
    values = []
    for matrix in table.reshape(-1, size, size).numpy():
        rows, columns = linear_sum_assignment(matrix, maximize=True)
        values.append(float(matrix[rows, columns].sum()))
    return torch.tensor(values).reshape(table.shape[:-2])
