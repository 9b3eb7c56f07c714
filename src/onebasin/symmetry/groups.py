"""Groups of neurons, the axes of tensors, and the occurrences of groups in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from onebasin.symmetry.errors import SymmetryError
from onebasin.symmetry.expressions import Expression, Fixed, leaves
from onebasin.symmetry.indexing import GroupIndices, coordinates, group_indices

OWN_LABEL = ""
"""The label of a group's own dimension among those of `Occurrence.indices`."""


@dataclass(frozen=True)
class Group:
    """Neurons that can be permuted among themselves.

    within: the other groups, or fixed index sets, that the group is nested in, outermost first. The group has one
    permutation for each of their indices; the dimensions inside each attention head are an example. Empty for a group
    with a single permutation.
    """

    name: str
    size: int
    within: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorAxes:
    """The axes of one tensor of a model's state.

    same_as: for a tensor with several names, the first of them; None under the first name.
    """

    axes: tuple[Expression, ...]
    parameter: bool = True
    same_as: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)


@dataclass(frozen=True)
class Occurrence:
    """One occurrence of a group in one axis of a tensor, or of a module's output.

    indices: the indices of the group's neurons in that axis. outer_indices: for each outer label that is on another
    axis, that axis and the indices of the label in it.
    """

    tensor: str
    axis: int
    group: Group
    indices: GroupIndices
    outer_indices: Mapping[str, tuple[int, GroupIndices]] = field(repr=False)

    def unfold(self, tensor: Tensor) -> Tensor:
        """All values that belong to each neuron, in one row: [*sizes of `group.within`, group.size, values].

        tensor: of the shape that the specification knows, except that axes without this group may have any size.
        """
        names: list[str | int | None] = list(range(tensor.ndim))
        tables: dict[int, tuple[list[str | None], Tensor]] = {
            self.axis: ([*self.indices.labels, OWN_LABEL], self.indices.table),
        }
        for name, (axis, indices) in self.outer_indices.items():
            tables.setdefault(axis, ([*indices.labels, name], indices.table))
        for axis in sorted(tables, reverse=True):
            labels, table = tables[axis]
            shape = [*tensor.shape[:axis], *table.shape, *tensor.shape[axis + 1 :]]
            tensor = tensor.index_select(axis, table.flatten().to(tensor.device)).reshape(shape)
            names[axis : axis + 1] = labels
        leading = [*(names.index(name) for name in self.group.within), names.index(OWN_LABEL)]
        rest = [dim for dim in range(tensor.ndim) if dim not in leading]
        return (
            tensor.permute([*leading, *rest]).flatten(len(leading)) if rest else tensor.permute(leading).unsqueeze(-1)
        )


def label_sizes(groups: Mapping[str, Group], tensors: Mapping[str, TensorAxes]) -> dict[str, int]:
    """The sizes of all labels that `Group.within` may name: the groups, and the named fixed index sets."""
    named = {
        leaf.name: leaf.size
        for entry in tensors.values()
        for axis in entry.axes
        for leaf in leaves(axis)
        if isinstance(leaf, Fixed) and leaf.name is not None
    }
    return named | {name: group.size for name, group in groups.items()}


def outermost_first(groups: Mapping[str, Group], names: Iterable[str]) -> list[str]:
    """Order group names so that each follows the groups that it lies within. Names on a cycle are left out."""
    ordered: list[str] = []
    waiting = list(names)
    while waiting:
        ready = [name for name in waiting if not any(other in waiting for other in groups[name].within)]
        if not ready:
            break
        ordered.extend(ready)
        waiting = [name for name in waiting if name not in ready]
    return ordered


def occurrences_in(name: str, axes: tuple[Expression, ...], group: Group) -> list[Occurrence]:
    """Every occurrence of a group in a tensor with these axes."""
    found: list[Occurrence] = []
    for axis, expression in enumerate(axes):
        for indices in group_indices(expression, group.name):
            outer_indices: dict[str, tuple[int, GroupIndices]] = {}
            for other in group.within:
                if other not in indices.labels:
                    outer_axis = axis_with_label(other, axes, axis)
                    outer_indices[other] = (outer_axis, group_indices(axes[outer_axis], other)[0])
            found.append(Occurrence(name, axis, group, indices, outer_indices))
    return found


def axis_with_label(name: str, axes: tuple[Expression, ...], apart_from: int) -> int:
    """The axis, other than `apart_from`, whose index includes a label. Raises SymmetryError if there is none."""
    for dim, axis in enumerate(axes):
        if dim != apart_from and name in coordinates(axis, torch.zeros(1, dtype=torch.long)):
            return dim
    raise SymmetryError(f"axis {apart_from} needs the index within {name!r}, which no other axis has")
