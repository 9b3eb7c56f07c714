"""From solved equations to a specification: which atoms are groups, how groups are nested, and their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from onebasin.symmetry.algebra import Atom, Axis, Cause, atoms_of, fresh, in_creation_order, length, resolve
from onebasin.symmetry.axis_structure import AxisTuple
from onebasin.symmetry.couplings import Couplings
from onebasin.symmetry.expressions import Concat, Expression, Fixed, Neurons, Product, leaves
from onebasin.symmetry.groups import Group, TensorAxes
from onebasin.symmetry.indexing import coordinates, missing_labels
from onebasin.symmetry.spec import PermutationSpec

NO_CAUSE = "its indices are used one by one"
"""The reason given for an axis that is neither free nor rigid by a recorded cause."""


@dataclass(frozen=True)
class StateTensor:
    """The axes of a tensor of the model's state, before they are expressed by groups; the fields of `TensorAxes`."""

    axes: AxisTuple
    parameter: bool
    same_as: str | None


def assemble(
    couplings: Couplings, state: Mapping[str, StateTensor], outputs: Mapping[str, AxisTuple], notes: Sequence[str]
) -> PermutationSpec:
    """Solve the deferred constraints, and express the axes of every tensor by groups.

    state: by the keys of the model's state_dict. outputs: the axes of the first tensor that each module returns.
    """
    axes, module_outputs = {name: entry.axes for name, entry in state.items()}, dict(outputs)
    couplings.solve_deferred(axes, module_outputs)
    axes = {name: tuple(map(resolve, each)) for name, each in axes.items()}
    module_outputs = {name: tuple(map(resolve, each)) for name, each in module_outputs.items()}
    couplings.fix_unused(axes.values())
    for each in axes.values():  # observe them again, because `solve_deferred` has changed them
        couplings.observe(each)
    free = list(dict.fromkeys(a for each in axes.values() for axis in each for a in atoms_of(axis) if a.cause is None))
    index = couplings.tensors_by_atom()
    outer = {atom: set(couplings.outer_atoms(atom, index)) for atom in free}
    _merge_adjacent(outer, axes, module_outputs)
    _orient_nesting(outer, free)
    padding_sets = _interchangeable_paddings(couplings, [atom for atom in outer if not outer[atom]], outer)
    names = _group_names(axes, outer, padding_sets)
    fixed: dict[Atom, str] = {}
    for atom in in_creation_order({atom for each in outer.values() for atom in each if atom.cause is not None}):
        name, dim = _first_occurrence(atom, axes)
        fixed[atom] = _unique_name(f"{name}[{dim}]", {*names.values(), *fixed.values()})
    builder = _ExpressionBuilder(names, padding_sets, fixed)
    labels = {**names, **fixed}
    order = {atom: position for position, atom in enumerate([*fixed, *names])}
    groups = {
        name: Group(
            name,
            sum(member.size for member in padding_sets.get(atom, [atom])),
            tuple(labels[each] for each in sorted(outer[atom], key=lambda a: (len(outer.get(a, ())), order[a]))),
        )
        for atom, name in names.items()
    }
    within = {name: group.within for name, group in groups.items()}
    output_axes = {name: builder.all_axes(each) for name, each in module_outputs.items()}
    return PermutationSpec(
        groups,
        {name: TensorAxes(builder.all_axes(axes[name]), each.parameter, each.same_as) for name, each in state.items()},
        {name: TensorAxes(each, parameter=False) for name, each in output_axes.items() if _is_complete(each, within)},
        tuple(dict.fromkeys(notes)),
    )


def _merge_adjacent(
    outer: dict[Atom, set[Atom]], axes: dict[str, AxisTuple], module_outputs: dict[str, AxisTuple]
) -> None:
    """Merge two atoms that are nested in each other and adjacent in every tensor.

    A permutation of each atom for each index of the other: together these generate all permutations of the pairs.
    """
    pairs = [(a, b) for a in outer for b in in_creation_order(outer[a]) if b in outer and a in outer[b]]
    for first, second in pairs:
        if first not in outer or second not in outer or not _always_adjacent(first, second, axes):
            continue
        whole = fresh(first.size * second.size)
        (atom,) = (factor for factor in whole if isinstance(factor, Atom))
        for tensors in (axes, module_outputs):
            for name, old in tensors.items():
                tensors[name] = tuple(_replace_pairs(axis, first, second, atom) for axis in old)
        outer[atom] = (outer.pop(first) & outer.pop(second)) - {first, second}
        for each in outer.values():
            if first in each and second in each:
                each.add(atom)
            each -= {first, second}


def _always_adjacent(first: Atom, second: Atom, axes: Mapping[str, AxisTuple]) -> bool:
    """Whether `second` directly follows `first` at every occurrence of either of them."""
    count = 0
    for axis in (axis for each in axes.values() for axis in each):
        mentioned = sum(atom in (first, second) for atom in atoms_of(axis))
        paired = sum(atom is second for atom in atoms_of(axis)) - sum(
            atom is second for atom in atoms_of(_replace_pairs(axis, first, second, None))
        )
        if mentioned != 2 * paired:
            return False
        count += paired
    return count > 0


def _replace_pairs(axis: Axis, first: Atom, second: Atom, whole: Atom | None) -> Axis:
    """The axis with each adjacent (first, second) replaced by `whole`, or removed if that is None."""
    factors = list(axis)
    position = 0
    while position < len(factors):
        factor = factors[position]
        if factor is first and factors[position + 1 : position + 2] == [second]:
            factors[position : position + 2] = [whole] if whole is not None else []
            continue
        if not isinstance(factor, Atom):
            factors[position] = type(factor)(tuple(_replace_pairs(part, first, second, whole) for part in factor.parts))
        position += 1
    return tuple(factors)


def _orient_nesting(outer: dict[Atom, set[Atom]], free: Sequence[Atom]) -> None:
    """Break mutual nesting, and require that a group is also nested in the outer groups of its outer groups.

    Of two groups nested in each other, the later one remains nested in the earlier one. An outer group whose own outer
    groups are not among those of the inner group is dropped.
    """
    position = {atom: number for number, atom in enumerate(free)}
    for atom in outer:
        for each in in_creation_order(outer[atom]):
            if each in outer and atom in outer[each]:
                later = max(atom, each, key=lambda a: position.get(a, 0))
                outer[each if later is atom else atom].discard(later)
    changed = True
    while changed:
        changed = False
        for outer_of_atom in outer.values():
            for other in in_creation_order(outer_of_atom):
                if other in outer and not outer[other] <= outer_of_atom:
                    outer_of_atom.discard(other)
                    changed = True


def _interchangeable_paddings(
    couplings: Couplings, unnested: Sequence[Atom], outer: Mapping[Atom, set[Atom]]
) -> dict[Atom, list[Atom]]:
    """The paddings that form one set of neurons: by the first of each set, all of them in order.

    unnested: the atoms with a single permutation.
    """
    inside = {atom for each in outer.values() for atom in each}
    candidates = [atom for atom in unnested if atom not in inside]
    padding_sets: dict[Atom, list[Atom]] = {}
    for first_axis, second_axis in couplings.paddings:
        first, second = resolve(first_axis), resolve(second_axis)
        if len(first) != 1 or len(second) != 1 or first == second:
            continue
        one, other = first[0], second[0]
        if not (isinstance(one, Atom) and isinstance(other, Atom) and one in candidates and other in candidates):
            continue
        padding_set = next((members for members in padding_sets.values() if one in members), [one])
        if other in padding_set or any(other in members for members in padding_sets.values()):
            continue
        if all(couplings.are_interchangeable(member, other) for member in padding_set):
            padding_set.append(other)
            padding_sets[padding_set[0]] = padding_set
    return padding_sets


def _is_complete(axes: tuple[Expression, ...], within: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether a tensor has neurons, and with them every index that selects their permutation."""
    neurons = [leaf for axis in axes for leaf in leaves(axis) if isinstance(leaf, Neurons)]
    found = {name for axis in axes for name in coordinates(axis, torch.zeros(1, dtype=torch.long))}
    return bool(neurons) and all(missing_labels(axis, within) <= found for axis in axes)


def _occurrences(axes: Mapping[str, AxisTuple]) -> Iterator[tuple[Atom, str, int]]:
    """Yield every occurrence of an atom with the tensor's name and dimension."""
    for name, each in axes.items():
        for dim, axis in enumerate(each):
            for atom in atoms_of(axis):
                yield atom, name, dim


def _first_occurrence(atom: Atom, axes: Mapping[str, AxisTuple]) -> tuple[str, int]:
    """The name and dimension of the first tensor that contains an atom."""
    return next((name, dim) for each, name, dim in _occurrences(axes) if each is atom)


def _group_names(
    axes: Mapping[str, AxisTuple], outer: Mapping[Atom, set[Atom]], padding_sets: Mapping[Atom, Sequence[Atom]]
) -> dict[Atom, str]:
    """A name for each group: the name of the first tensor that contains it."""
    later = {member for members in padding_sets.values() for member in members[1:]}
    names: dict[Atom, str] = {}
    for atom, tensor, _ in _occurrences(axes):
        if atom not in outer or atom in names or atom in later:
            continue
        base = tensor.removesuffix(".weight") + ("/inner" if outer[atom] else "")
        names[atom] = _unique_name(base, set(names.values()))
    return names


def _unique_name(base: str, taken: set[str]) -> str:
    """The base name, with a number appended if the name is taken."""
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}:{number}"
    return name


class _ExpressionBuilder:
    """Converts axes of atoms to expressions of named groups."""

    def __init__(
        self, names: Mapping[Atom, str], padding_sets: Mapping[Atom, Sequence[Atom]], fixed: Mapping[Atom, str]
    ) -> None:
        self.leaves: dict[Atom, Expression] = {}
        for atom, name in names.items():
            start = 0
            for member in padding_sets.get(atom, [atom]):
                self.leaves[member] = Neurons(name, member.size, start)
                start += member.size
        for atom, name in fixed.items():
            self.leaves[atom] = Fixed(atom.size, str(atom.cause), name)

    def all_axes(self, axes: AxisTuple) -> tuple[Expression, ...]:
        """The expressions of all axes of a tensor."""
        return tuple(map(self.axis, axes))

    def axis(self, axis: Axis) -> Expression:
        """The expression of one resolved axis. An axis without groups becomes a single `Fixed`."""
        if not any(atom in self.leaves for atom in atoms_of(axis)):
            return Fixed(length(axis), _joined_causes(axis))
        factors: list[Expression] = []
        for factor in axis:
            if isinstance(factor, Atom):
                factors.append(self.leaves.get(factor) or Fixed(factor.size, _joined_causes((factor,))))
            else:
                factors.append(Concat(tuple(map(self.axis, factor.parts))))
        return factors[0] if len(factors) == 1 else Product(tuple(factors))


def _joined_causes(axis: Axis) -> str:
    """The distinct causes of the rigid atoms of an axis, as one text."""
    causes: dict[Cause, None] = dict.fromkeys(atom.cause for atom in atoms_of(axis) if atom.cause is not None)
    return "; ".join(map(str, causes)) or ("of length one" if length(axis) == 1 else NO_CAUSE)
