"""Groups within groups: what it is worth to move a whole once the neurons inside it have found their best order.

An attention head, or a block of a group normalisation, can change places with another while its own neurons are
permuted too. As long as these are in another order, two heads that are the same show no likeness, and descent over one
group at a time stops where it began. So before a whole is moved, every pairing of wholes is judged by the best
assignment of what they hold: an assignment problem of assignment problems, from the inside to the outside.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from onebasin.symmetry.spec import PermutationSpec

Rows = Callable[[str, str], Sequence[tuple[Tensor, Tensor]]]
"""For a tensor and a group in it: the reference's neurons and the model's, [*within, n, rest] each, at every place."""


class Nested:
    """Which groups lie within which, and in which of them each tensor is judged."""

    def __init__(self, spec: PermutationSpec, present: Mapping[str, Sequence[str]]) -> None:
        """present: the names of the groups in each tensor."""
        self._spec = spec
        self._children = {
            name: [other.name for other in spec.groups.values() if other.within == (*group.within, name)]
            for name, group in spec.groups.items()
        }
        self._judged = {name: self._judges(name, present) for name, children in self._children.items() if children}

    def holds(self, group: str) -> bool:
        """Whether other groups lie within it."""
        return group in self._judged

    def inside(self, group: str) -> Iterator[str]:
        """The groups within it, outermost first."""
        for child in self._children[group]:
            yield child
            yield from self.inside(child)

    def similarity(self, group: str, rows: Rows) -> Tensor:
        """Sum of products between the reference's neurons and the model's, those inside assigned: [*within, n, n]."""
        shape = self._spec.shape(group)
        return self._table(group, group, rows).reshape(*shape, shape[-1])

    def _table(self, group: str, top: str, rows: Rows) -> Tensor:
        """[outside, m, m, n, n]: for each two of the m wholes that the group lies within, the products of neurons."""
        shape = self._spec.shape(group)
        apart = len(self._spec.groups[top].within)
        outside, wholes, size = math.prod(shape[:apart]), math.prod(shape[apart:-1]), shape[-1]
        products = torch.zeros(outside, wholes * size, wholes * size)
        for tensor in self._judged[top].get(group, ()):
            for reference, model in rows(tensor, group):
                products += reference.reshape(*products.shape[:2], -1) @ model.reshape(*products.shape[:2], -1).mT
        for child in self._children[group]:
            products += _assigned(self._table(child, top, rows))
        return products.reshape(outside, wholes, size, wholes, size).transpose(2, 3)

    def _judges(self, top: str, present: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """The tensors with this group, by the innermost group that all others in them lie around or within."""
        judged: dict[str, list[str]] = {}
        for tensor, groups in present.items():
            if top not in groups:
                continue
            group = top
            while len(inner := [c for c in self._children[group] if {c, *self.inside(c)} & set(groups)]) == 1:
                group = inner[0]
            judged.setdefault(group, []).append(tensor)
        return judged


def _assigned(table: Tensor) -> Tensor:
    """The largest sum of an assignment in each of the last two dimensions' matrices."""
    from scipy.optimize import linear_sum_assignment  # 40 MB, which clients do without

    size = table.shape[-1]
    values = []
    for matrix in table.reshape(-1, size, size).numpy():
        rows, columns = linear_sum_assignment(matrix, maximize=True)
        values.append(float(matrix[rows, columns].sum()))
    return torch.tensor(values).reshape(table.shape[:-2])
