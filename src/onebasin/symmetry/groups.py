"""Groups of neurons, the axes of tensors, and where a group stands in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from onebasin.symmetry.errors import SymmetryError
from onebasin.symmetry.expressions import Expression, Fixed, leaves
from onebasin.symmetry.indexing import Place, coordinates, places

THIS = ""
"""The name, among the labels of a place, of the dimension of the group itself."""


@dataclass(frozen=True)
class Group:
    """Neurons that can be permuted among themselves.

    `within` names other groups, or fixed index sets, outermost first: the group has one permutation for each of their
    indices (the dimensions inside each attention head). Empty: one permutation.
    """

    name: str
    size: int
    within: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorAxes:
    """The axes of one tensor of a model's state. `same_as`: the first name of a tensor that has several."""

    axes: tuple[Expression, ...]
    parameter: bool = True
    same_as: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)


@dataclass(frozen=True)
class Occurrence:
    """One place of a group in one axis of a tensor (or of a module's output).

    `unfold` brings a tensor into the shape [*within, neurons, everything else].
    """

    tensor: str
    axis: int
    group: Group
    place: Place
    beside: Mapping[str, tuple[int, Place]] = field(repr=False)

    def unfold(self, tensor: Tensor) -> Tensor:
        """[*sizes of `group.within`, group.size, rest]: all values of each neuron in one row.

        tensor: of the shape that the specification knows, except that axes without this group may have any size.
        """
        names: list[str | int | None] = list(range(tensor.ndim))
        moves: dict[int, tuple[list[str | None], Tensor]] = {
            self.axis: ([*self.place.labels, THIS], self.place.table),
        }
        for name, (axis, place) in self.beside.items():
            moves.setdefault(axis, ([*place.labels, name], place.table))
        for axis in sorted(moves, reverse=True):
            labels, table = moves[axis]
            shape = [*tensor.shape[:axis], *table.shape, *tensor.shape[axis + 1 :]]
            tensor = tensor.index_select(axis, table.flatten().to(tensor.device)).reshape(shape)
            names[axis : axis + 1] = labels
        wanted = [*(names.index(name) for name in self.group.within), names.index(THIS)]
        rest = [dim for dim in range(tensor.ndim) if dim not in wanted]
        return tensor.permute([*wanted, *rest]).flatten(len(wanted)) if rest else tensor.permute(wanted).unsqueeze(-1)


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
    """Every place of a group in a tensor with these axes."""
    found: list[Occurrence] = []
    for axis, expression in enumerate(axes):
        for place in places(expression, group.name):
            beside: dict[str, tuple[int, Place]] = {}
            for other in group.within:
                if other not in place.labels:
                    where = axis_of(other, axes, axis)
                    beside[other] = (where, places(axes[where], other)[0])
            found.append(Occurrence(name, axis, group, place, beside))
    return found


def axis_of(name: str, axes: tuple[Expression, ...], apart_from: int) -> int:
    """The axis whose index chooses the permutation of a group on another axis."""
    for dim, axis in enumerate(axes):
        if dim != apart_from and name in coordinates(axis, torch.zeros(1, dtype=torch.long)):
            return dim
    raise SymmetryError(f"axis {apart_from} needs the index within {name!r}, which no other axis has")
