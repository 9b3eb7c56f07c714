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
from onebasin.symmetry.indexing import coordinates, missing_labels, source_index
from onebasin.symmetry.storage import dump, load
from onebasin.symmetry.summary import summary

Perms = dict[str, Tensor]
"""Permutations by group name: int64 [*sizes of what the group lies within, neurons]."""


@dataclass(frozen=True)
class PermutationSpec:
    """The groups of neurons that can be permuted, and how a permutation acts on each tensor of the model's state.

    For any permutation of each group, `apply` leaves the function of the model unchanged.
    groups: by name. tensors: the axes of each tensor, by its key in the model's state_dict. outputs: the axes of the
    first tensor that each module returns, by module path, if the tensor depends on the inputs and some group permutes
    it; batch and sequence axes have the sizes of the example. notes: what the search did not cover.
    """

    groups: Mapping[str, Group]
    tensors: Mapping[str, TensorAxes]
    outputs: Mapping[str, TensorAxes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """The number of neurons of each group. A nested group has this number for each index of its outer groups."""
        return {name: group.size for name, group in self.groups.items()}

    @property
    def coverage(self) -> float:
        """The fraction of all parameter values that some group permutes."""
        moved = total = 0.0
        for entry in self.tensors.values():
            if entry.parameter and entry.same_as is None:
                still = math.prod(_fixed_fraction(axis) for axis in entry.axes)
                total += math.prod(entry.shape)
                moved += math.prod(entry.shape) * (1 - still)
        return moved / total if total else 0.0

    def shape(self, group: str) -> tuple[int, ...]:
        """The shape of a group's permutations: [*sizes of what it lies within, neurons]."""
        definition = self._group(group)
        return (*(self.label_sizes[name] for name in definition.within), definition.size)

    def identity(self) -> Perms:
        """The identity permutation of each group."""
        return {name: torch.arange(group.size).expand(self.shape(name)).clone() for name, group in self.groups.items()}

    def random(self, seed: int) -> Perms:
        """Uniformly random permutations of all groups, a deterministic function of the seed."""
        perms: Perms = {}
        for name, group in self.groups.items():
            shape = self.shape(name)
            draws = generator(seed, "permutation", name)
            rows = [torch.randperm(group.size, generator=draws) for _ in range(math.prod(shape[:-1]))]
            perms[name] = torch.stack(rows).reshape(shape)
        return perms

    def apply(self, tensors: Mapping[str, Tensor], perms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Permute the neurons of all tensors: new neuron i of a group is old neuron perms[group][i].

        tensors: a state_dict, or any tensors with some of its keys and shapes, such as gradients, optimiser moments or
        residuals. Tensors that no permutation moves are returned as they are; the others are new.
        perms: for some or all groups. A nested group has the permutation perms[group][*new indices of its outer
        groups].
        Raises SymmetryError for unknown keys or groups, wrong shapes, and indices that are no permutation.
        """
        self.check(perms)
        perms = {name: permutation.to("cpu") for name, permutation in perms.items()}
        return {key: self._apply_to(key, tensor, perms) for key, tensor in tensors.items()}

    def invert(self, perms: Mapping[str, Tensor]) -> Perms:
        """The inverse permutations: apply(apply(state, perms), invert(perms)) equals the state."""
        self.check(perms)
        inverse: Perms = {}
        for name in self.outermost_first(perms):
            inverse[name] = self._at_source(name, perms[name], inverse).argsort(-1)
        return {name: inverse[name] for name in perms}

    def compose(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Perms:
        """The composition: apply(apply(state, first), second) equals apply(state, compose(first, second))."""
        self.check(first)
        self.check(second)
        both: Perms = {}
        for name in self.outermost_first({**first, **second}):
            earlier = first.get(name, torch.arange(self.groups[name].size).expand(self.shape(name)))
            later = second.get(name, torch.arange(self.groups[name].size).expand(self.shape(name)))
            both[name] = self._at_source(name, earlier, second).gather(-1, later)
        return both

    def occurrences(self, group: str, outputs: bool = False) -> list[Occurrence]:
        """Every occurrence of a group in the model's state, or in its modules' outputs. A shared tensor counts once."""
        definition = self._group(group)
        if (group, outputs) not in self._known_occurrences:
            self._known_occurrences[group, outputs] = [
                occurrence
                for name, entry in (self.outputs if outputs else self.tensors).items()
                if entry.same_as is None
                for occurrence in occurrences_in(name, entry.axes, definition)
            ]
        return list(self._known_occurrences[group, outputs])

    def unfold(self, group: str, tensors: Mapping[str, Tensor]) -> Tensor:
        """All parameter values that belong to each neuron of a group: [*within, neurons, values].

        tensors: as for `apply`. Missing tensors and buffers are left out. A tensor with the group on two axes appears
        twice.
        Raises SymmetryError if no parameter is left.
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
            raise SymmetryError(f"tensor {tensor!r} is unknown; the model has {_first_names(self.tensors)}")
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
        """Raise SymmetryError unless every value is a permutation of its group. Groups may be missing."""
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
        """The specification as JSON text, for `from_json`."""
        return dump(self.groups, self.tensors, self.outputs, self.notes)

    @classmethod
    def from_json(cls, text: str) -> PermutationSpec:
        """Read text that `to_json` wrote. Raises SymmetryError, which names the problem, for any other text."""
        return cls(*load(text))

    def __str__(self) -> str:
        return summary(self)

    def _group(self, name: str) -> Group:
        """The group with this name. Raises SymmetryError if there is none."""
        if name not in self.groups:
            raise SymmetryError(f"group {name!r} is unknown; the groups are {_first_names(self.groups)}")
        return self.groups[name]

    @cached_property
    def _known_occurrences(self) -> dict[tuple[str, bool], list[Occurrence]]:
        """The results of `occurrences`. To compute them takes longer than to match a small model."""
        return {}

    @cached_property
    def label_sizes(self) -> dict[str, int]:
        """The sizes of all labels that `Group.within` may name: the groups, and the named fixed index sets."""
        return label_sizes(self.groups, self.tensors)

    def _apply_to(self, key: str, tensor: Tensor, perms: Mapping[str, Tensor]) -> Tensor:
        """Permute one tensor."""
        if not isinstance(tensor, Tensor):  # a module may put other objects into its state_dict
            return tensor
        if key not in self.tensors:
            raise SymmetryError(f"tensor {key!r} is unknown; the model has {_first_names(self.tensors)}")
        axes = self.tensors[key].axes
        if tuple(tensor.shape) != self.tensors[key].shape:
            raise SymmetryError(f"{key}: shape {list(tensor.shape)}; expected {list(self.tensors[key].shape)}")
        within = {name: self.groups[name].within for name in perms}
        moving = [dim for dim, axis in enumerate(axes) if any(label(leaf) in perms for leaf in leaves(axis))]
        if not moving:
            return tensor
        independent = all(not missing_labels(axes[dim], within) for dim in moving)
        if independent:
            for dim in moving:
                tensor = _take_along(
                    tensor, dim, axes[dim], source_index(axes[dim], torch.arange(axes[dim].size), {}, perms, within)
                )
            return tensor
        index = [_shaped_along(dim, torch.arange(axis.size), len(axes)) for dim, axis in enumerate(axes)]
        labelled = [coordinates(axis, at) for axis, at in zip(axes, index, strict=True)]
        source_indices = []
        for dim, axis in enumerate(axes):
            context = {name: at for other, each in enumerate(labelled) if other != dim for name, at in each.items()}
            source_indices.append(source_index(axis, index[dim], context, perms, within).to(tensor.device))
        return tensor[tuple(source_indices)]

    def _at_source(self, name: str, permutation: Tensor, outer: Mapping[str, Tensor]) -> Tensor:
        """A group's permutations at the old indices of its outer groups, which the permutations in `outer` give."""
        within = self.groups[name].within
        shape = self.shape(name)
        index = [_shaped_along(dim, torch.arange(size), len(within)) for dim, size in enumerate(shape[:-1])]
        at = dict(zip(within, index, strict=True))
        source = [
            outer[other][(*(at[each] for each in self.groups[other].within), at[other])]
            if other in outer
            else at[other]
            for other in within
        ]
        return permutation[tuple(source)] if source else permutation

    def outermost_first(self, names: Iterable[str]) -> list[str]:
        """Order group names so that each follows the groups that it lies within. Names on a cycle are left out."""
        return outermost_first(self.groups, names)


def _take_along(tensor: Tensor, dim: int, axis: Expression, source: Tensor) -> Tensor:
    """Select source indices along a dimension. Trailing factors that keep their order are copied whole, for speed."""
    last = axis.factors[-1] if isinstance(axis, Product) else None
    # The permutation of another factor may depend on the index of a named factor, so that one is not copied whole.
    block = last.size if isinstance(last, Fixed) and last.name is None else 1
    shape = tensor.shape
    rows = tensor.reshape(*shape[:dim], shape[dim] // block, block, *shape[dim + 1 :])
    return rows.index_select(dim, (source[::block] // block).to(tensor.device)).reshape(shape)


def _shaped_along(dim: int, index: Tensor, ndim: int) -> Tensor:
    """Reshape an index vector so that it varies along `dim` of `ndim` dimensions."""
    return index.reshape([-1 if axis == dim else 1 for axis in range(ndim)])


def _fixed_fraction(expression: Expression) -> float:
    """The fraction of the indices of an axis that no group moves."""
    match expression:
        case Fixed():
            return 1.0
        case Neurons():
            return 0.0
        case Product(factors):
            return math.prod(map(_fixed_fraction, factors))
        case Concat(parts):
            return sum(part.size * _fixed_fraction(part) for part in parts) / expression.size


def _first_names(names: Mapping[str, object]) -> str:
    """The first names of a list, and the number of the others, for error messages."""
    listed = list(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
