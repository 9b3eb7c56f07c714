"""The permutation symmetries of a model, as data that can be applied, inspected and stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from onebasin.core.seeds import generator
from onebasin.symmetry.errors import SymmetryError
from onebasin.symmetry.expressions import Concat, Expression, Fixed, Neurons, Product, describe, label, leaves
from onebasin.symmetry.groups import Group, Occurrence, TensorAxes, label_sizes, occurrences_in, outermost_first
from onebasin.symmetry.indexing import coordinates, needs, source
from onebasin.symmetry.storage import dump, load
from onebasin.symmetry.summary import summary

Perms = dict[str, Tensor]


@dataclass(frozen=True)
class PermutationSpec:
    """Which neurons of a model can be permuted, and how that acts on every tensor of its state.

    groups: by name. tensors: by the keys of the model's state_dict. outputs: the axes of the first tensor that each
    module returns, by module path, where it depends on the inputs and some group permutes it (batch and positions have
    the sizes of the example). notes: what was not covered. The function that the model computes stays the same under
    `apply`, for any permutation of every group.
    """

    groups: Mapping[str, Group]
    tensors: Mapping[str, TensorAxes]
    outputs: Mapping[str, TensorAxes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Number of neurons of each group. A group within another has that many for each index of the other."""
        return {name: group.size for name, group in self.groups.items()}

    @property
    def coverage(self) -> float:
        """Fraction of the parameters' values that some group permutes."""
        moved = total = 0.0
        for entry in self.tensors.values():
            if entry.parameter and entry.same_as is None:
                still = math.prod(_fixed_fraction(axis) for axis in entry.axes)
                total += math.prod(entry.shape)
                moved += math.prod(entry.shape) * (1 - still)
        return moved / total if total else 0.0

    def shape(self, group: str) -> tuple[int, ...]:
        """The shape of a group's permutations: [*sizes of what it lies within, neurons]."""
        known = self._group(group)
        return (*(self.label_sizes[name] for name in known.within), known.size)

    def identity(self) -> Perms:
        """Permutations that change nothing."""
        return {name: torch.arange(group.size).expand(self.shape(name)).clone() for name, group in self.groups.items()}

    def random(self, seed: int) -> Perms:
        """Uniformly random permutations of every group, the same for the same seed."""
        perms: Perms = {}
        for name, group in self.groups.items():
            shape = self.shape(name)
            draws = generator(seed, "permutation", name)
            rows = [torch.randperm(group.size, generator=draws) for _ in range(math.prod(shape[:-1]))]
            perms[name] = torch.stack(rows).reshape(shape)
        return perms

    def apply(self, tensors: Mapping[str, Tensor], perms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put neurons into another order: new neuron i of a group is old neuron perms[group][i].

        tensors: a state_dict, or any tensors with some of its keys and the shapes that belong to them (gradients,
        optimiser moments, residuals). Tensors that nothing moves are returned as they are, others are new.
        A group within others has the permutation perms[group][*new indices of the others].
        Raises SymmetryError for unknown keys or groups, other shapes, and what is no permutation.
        """
        self.check(perms)
        perms = {name: permutation.to("cpu") for name, permutation in perms.items()}
        return {key: self._apply(key, tensor, perms) for key, tensor in tensors.items()}

    def invert(self, perms: Mapping[str, Tensor]) -> Perms:
        """The permutations that undo these: apply(apply(state, perms), invert(perms)) is the state."""
        self.check(perms)
        inverse: Perms = {}
        for name in self.outermost_first(perms):
            inverse[name] = self._at_old(name, perms[name], inverse).argsort(-1)
        return {name: inverse[name] for name in perms}

    def compose(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Perms:
        """The permutations that do both: apply(apply(state, first), second) is apply(state, compose(first, second))."""
        self.check(first)
        self.check(second)
        both: Perms = {}
        for name in self.outermost_first({**first, **second}):
            earlier = first.get(name, torch.arange(self.groups[name].size).expand(self.shape(name)))
            later = second.get(name, torch.arange(self.groups[name].size).expand(self.shape(name)))
            both[name] = self._at_old(name, earlier, second).gather(-1, later)
        return both

    def occurrences(self, group: str, outputs: bool = False) -> list[Occurrence]:
        """Every place of a group in the model's state (each shared tensor once), or in what its modules return."""
        known = self._group(group)
        if (group, outputs) not in self._places:
            self._places[group, outputs] = [
                occurrence
                for name, entry in (self.outputs if outputs else self.tensors).items()
                if entry.same_as is None
                for occurrence in occurrences_in(name, entry.axes, known)
            ]
        return list(self._places[group, outputs])

    def unfold(self, group: str, tensors: Mapping[str, Tensor]) -> Tensor:
        """All parameter values that belong to each neuron of a group: [*within, neurons, values].

        tensors: as for `apply`; what is missing, and buffers, are left out. A tensor that has the group on two axes is
        there twice. Raises SymmetryError if nothing is left.
        """
        rows = [
            occurrence.unfold(tensors[occurrence.tensor])
            for occurrence in self.occurrences(group)
            if occurrence.tensor in tensors and self.tensors[occurrence.tensor].parameter
        ]
        if not rows:
            raise SymmetryError(f"group {group!r}: none of its parameters is among the tensors given")
        return torch.cat(rows, -1)

    def explain(self, tensor: str, axis: int) -> str:
        """What permutes an axis of a tensor, or why nothing does. Raises SymmetryError if there is no such axis."""
        if tensor not in self.tensors:
            raise SymmetryError(f"tensor {tensor!r} is unknown; the model has {_some(self.tensors)}")
        axes = self.tensors[tensor].axes
        if not -len(axes) <= axis < len(axes):
            raise SymmetryError(f"{tensor}: no axis {axis}; it has {len(axes)}")
        expression = axes[axis]
        reasons = list(dict.fromkeys(leaf.why for leaf in leaves(expression) if isinstance(leaf, Fixed)))
        names = list(dict.fromkeys(leaf.group for leaf in leaves(expression) if isinstance(leaf, Neurons)))
        text = f"{tensor}[{axis}] = {describe(expression)}"
        if names:
            text += "; permuted by " + ", ".join(
                name + (f" (within {', '.join(self.groups[name].within)})" if self.groups[name].within else "")
                for name in names
            )
        if reasons:
            text += "; fixed: " + "; ".join(reasons)
        return text

    def check(self, perms: Mapping[str, Tensor]) -> None:
        """Raise SymmetryError unless each of these is a permutation of a group. Groups may be missing."""
        for name, permutation in perms.items():
            shape = self.shape(name)
            if not isinstance(permutation, Tensor) or permutation.dtype != torch.int64:
                found = permutation.dtype if isinstance(permutation, Tensor) else type(permutation).__name__
                raise SymmetryError(f"permutation of {name!r}: {found}; expected a LongTensor")
            if tuple(permutation.shape) != shape:
                raise SymmetryError(f"permutation of {name!r}: shape {list(permutation.shape)}; expected {list(shape)}")
            if not bool((permutation.sort(-1).values == torch.arange(shape[-1], device=permutation.device)).all()):
                raise SymmetryError(f"permutation of {name!r}: not every index from 0 to {shape[-1] - 1} once")

    def to_json(self) -> str:
        """The specification as text, for `from_json`."""
        return dump(self.groups, self.tensors, self.outputs, self.notes)

    @classmethod
    def from_json(cls, text: str) -> PermutationSpec:
        """Read what `to_json` wrote. Raises SymmetryError, which names what is wrong, for anything else."""
        return cls(*load(text))

    def __str__(self) -> str:
        return summary(self)

    def _group(self, name: str) -> Group:
        if name not in self.groups:
            raise SymmetryError(f"group {name!r} is unknown; the groups are {_some(self.groups)}")
        return self.groups[name]

    @cached_property
    def _places(self) -> dict[tuple[str, bool], list[Occurrence]]:
        """What `occurrences` has found before; looking for it takes longer than to match a small model."""
        return {}

    @cached_property
    def label_sizes(self) -> dict[str, int]:
        """The sizes of everything that a group can lie within: groups, and index sets that keep their order."""
        return label_sizes(self.groups, self.tensors)

    def _apply(self, key: str, tensor: Tensor, perms: Mapping[str, Tensor]) -> Tensor:
        if not isinstance(tensor, Tensor):  # what modules put into a state_dict beside their tensors
            return tensor
        if key not in self.tensors:
            raise SymmetryError(f"tensor {key!r} is unknown; the model has {_some(self.tensors)}")
        axes = self.tensors[key].axes
        if tuple(tensor.shape) != self.tensors[key].shape:
            raise SymmetryError(f"{key}: shape {list(tensor.shape)}; expected {list(self.tensors[key].shape)}")
        within = {name: self.groups[name].within for name in perms}
        moving = [dim for dim, axis in enumerate(axes) if any(label(leaf) in perms for leaf in leaves(axis))]
        if not moving:
            return tensor
        alone = all(not needs(axes[dim], within) for dim in moving)
        if alone:
            for dim in moving:
                tensor = _taken(
                    tensor, dim, axes[dim], source(axes[dim], torch.arange(axes[dim].size), {}, perms, within)
                )
            return tensor
        index = [_along(dim, torch.arange(axis.size), len(axes)) for dim, axis in enumerate(axes)]
        found = [coordinates(axis, at) for axis, at in zip(axes, index, strict=True)]
        olds = []
        for dim, axis in enumerate(axes):
            context = {name: at for other, each in enumerate(found) if other != dim for name, at in each.items()}
            olds.append(source(axis, index[dim], context, perms, within).to(tensor.device))
        return tensor[tuple(olds)]

    def _at_old(self, name: str, permutation: Tensor, outer: Mapping[str, Tensor]) -> Tensor:
        """A group's permutations, in the order that `outer` gives to the indices it lies within."""
        within = self.groups[name].within
        shape = self.shape(name)
        index = [_along(dim, torch.arange(size), len(within)) for dim, size in enumerate(shape[:-1])]
        at = dict(zip(within, index, strict=True))
        old = [
            outer[other][(*(at[each] for each in self.groups[other].within), at[other])]
            if other in outer
            else at[other]
            for other in within
        ]
        return permutation[tuple(old)] if old else permutation

    def outermost_first(self, names: Iterable[str]) -> list[str]:
        """Group names such that each comes after those that it lies within; those in a circle are left out."""
        return outermost_first(self.groups, names)


def _taken(tensor: Tensor, dim: int, axis: Expression, old: Tensor) -> Tensor:
    """The tensor with other indices along a dimension; stretches that keep their order are copied whole, for speed."""
    last = axis.factors[-1] if isinstance(axis, Product) else None
    block = last.size if isinstance(last, Fixed) and last.name is None else 1  # with a name: what others lie within
    shape = tensor.shape
    rows = tensor.reshape(*shape[:dim], shape[dim] // block, block, *shape[dim + 1 :])
    return rows.index_select(dim, (old[::block] // block).to(tensor.device)).reshape(shape)


def _along(dim: int, index: Tensor, ndim: int) -> Tensor:
    return index.reshape([-1 if place == dim else 1 for place in range(ndim)])


def _fixed_fraction(expression: Expression) -> float:
    """Fraction of the indices of an axis that no group moves."""
    match expression:
        case Fixed():
            return 1.0
        case Neurons():
            return 0.0
        case Product(factors):
            return math.prod(map(_fixed_fraction, factors))
        case Concat(parts):
            return sum(part.size * _fixed_fraction(part) for part in parts) / expression.size


def _some(names: Mapping[str, object]) -> str:
    listed = list(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
