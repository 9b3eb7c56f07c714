"""From solved equations to a specification: which atoms are groups, what they lie within, what they are called."""

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

UNEXPLAINED = "its indices are used one by one"


@dataclass(frozen=True)
class StateTensor:
    """What is known of a tensor of the model's state: see `TensorAxes`."""

    axes: AxisTuple
    parameter: bool
    same_as: str | None


def assemble(
    couplings: Couplings, state: Mapping[str, StateTensor], outputs: Mapping[str, AxisTuple], notes: Sequence[str]
) -> PermutationSpec:
    """Conclude the couplings, and describe every tensor by groups."""
    axes, returned = {name: entry.axes for name, entry in state.items()}, dict(outputs)
    couplings.solve_deferred(axes, returned)
    axes = {name: tuple(map(resolve, each)) for name, each in axes.items()}
    returned = {name: tuple(map(resolve, each)) for name, each in returned.items()}
    couplings.fix_unused(axes.values())
    for each in axes.values():  # as they are now, after tensors were taken apart
        couplings.observe(each)
    free = list(dict.fromkeys(a for each in axes.values() for axis in each for a in atoms_of(axis) if a.cause is None))
    index = couplings.tensors_by_atom()
    outer = {atom: set(couplings.outer_atoms(atom, index)) for atom in free}
    _merge_inseparable(outer, axes, returned)
    _order(outer, free)
    sets = _interchangeable(couplings, [atom for atom in outer if not outer[atom]], outer)
    names = _names(axes, outer, sets)
    fixed: dict[Atom, str] = {}
    for atom in in_creation_order({atom for each in outer.values() for atom in each if atom.cause is not None}):
        name, dim = _first(atom, axes)
        fixed[atom] = _unique(f"{name}[{dim}]", {*names.values(), *fixed.values()})
    namer = _Namer(names, sets, fixed)
    labels = {**names, **fixed}
    order = {atom: place for place, atom in enumerate([*fixed, *names])}
    groups = {
        name: Group(
            name,
            sum(member.size for member in sets.get(atom, [atom])),
            tuple(labels[each] for each in sorted(outer[atom], key=lambda a: (len(outer.get(a, ())), order[a]))),
        )
        for atom, name in names.items()
    }
    within = {name: group.within for name, group in groups.items()}
    described = {name: namer.all(each) for name, each in returned.items()}
    return PermutationSpec(
        groups,
        {name: TensorAxes(namer.all(axes[name]), entry.parameter, entry.same_as) for name, entry in state.items()},
        {name: TensorAxes(each, parameter=False) for name, each in described.items() if _is_complete(each, within)},
        tuple(dict.fromkeys(notes)),
    )


def _merge_inseparable(
    outer: dict[Atom, set[Atom]], axes: dict[str, AxisTuple], returned: dict[str, AxisTuple]
) -> None:
    """Make one atom of two that lie within each other and stand side by side in every tensor.

    Permutations of each, chosen for each index of the other, together give all permutations of the pairs.
    """
    pairs = [(a, b) for a in outer for b in in_creation_order(outer[a]) if b in outer and a in outer[b]]
    for first, second in pairs:
        if first not in outer or second not in outer or not _always_adjacent(first, second, axes):
            continue
        whole = fresh(first.size * second.size)
        (atom,) = (factor for factor in whole if isinstance(factor, Atom))
        for tensors in (axes, returned):
            for name, old in tensors.items():
                tensors[name] = tuple(_paired(axis, first, second, atom) for axis in old)
        outer[atom] = (outer.pop(first) & outer.pop(second)) - {first, second}
        for each in outer.values():
            if first in each and second in each:
                each.add(atom)
            each -= {first, second}


def _always_adjacent(first: Atom, second: Atom, axes: Mapping[str, AxisTuple]) -> bool:
    """Whether `second` comes right after `first` wherever one of them is, and is nowhere else."""
    count = 0
    for axis in (axis for each in axes.values() for axis in each):
        mentioned = sum(atom in (first, second) for atom in atoms_of(axis))
        paired = sum(atom is second for atom in atoms_of(axis)) - sum(
            atom is second for atom in atoms_of(_paired(axis, first, second, None))
        )
        if mentioned != 2 * paired:
            return False
        count += paired
    return count > 0


def _paired(axis: Axis, first: Atom, second: Atom, whole: Atom | None) -> Axis:
    """The axis with each (first, second) exchanged for `whole`, or left out."""
    factors = list(axis)
    place = 0
    while place < len(factors):
        factor = factors[place]
        if factor is first and factors[place + 1 : place + 2] == [second]:
            factors[place : place + 2] = [whole] if whole is not None else []
            continue
        if not isinstance(factor, Atom):
            factors[place] = type(factor)(tuple(_paired(part, first, second, whole) for part in factor.parts))
        place += 1
    return tuple(factors)


def _order(outer: dict[Atom, set[Atom]], free: Sequence[Atom]) -> None:
    """Let groups lie within each other in one direction, and within all that their outer groups lie within."""
    place = {atom: number for number, atom in enumerate(free)}
    for atom in outer:
        for each in in_creation_order(outer[atom]):
            if each in outer and atom in outer[each]:
                later = max(atom, each, key=lambda a: place.get(a, 0))
                outer[each if later is atom else atom].discard(later)
    changed = True
    while changed:
        changed = False
        for around in outer.values():
            for other in in_creation_order(around):
                if other in outer and not outer[other] <= around:
                    around.discard(other)
                    changed = True


def _interchangeable(
    couplings: Couplings, alone: Sequence[Atom], outer: Mapping[Atom, set[Atom]]
) -> dict[Atom, list[Atom]]:
    """Paddings that are one set of neurons: by their first, all of them in their order."""
    inside = {atom for each in outer.values() for atom in each}
    candidates = [atom for atom in alone if atom not in inside]
    sets: dict[Atom, list[Atom]] = {}
    for first_axis, second_axis in couplings.paddings:
        first, second = resolve(first_axis), resolve(second_axis)
        if len(first) != 1 or len(second) != 1 or first == second:
            continue
        one, other = first[0], second[0]
        if not (isinstance(one, Atom) and isinstance(other, Atom) and one in candidates and other in candidates):
            continue
        home = next((members for members in sets.values() if one in members), [one])
        if other in home or any(other in members for members in sets.values()):
            continue
        if all(couplings.are_interchangeable(member, other) for member in home):
            home.append(other)
            sets[home[0]] = home
    return sets


def _is_complete(axes: tuple[Expression, ...], within: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether a tensor has neurons, and with them every index that chooses their permutation."""
    neurons = [leaf for axis in axes for leaf in leaves(axis) if isinstance(leaf, Neurons)]
    found = {name for axis in axes for name in coordinates(axis, torch.zeros(1, dtype=torch.long))}
    return bool(neurons) and all(missing_labels(axis, within) <= found for axis in axes)


def _occurrences(axes: Mapping[str, AxisTuple]) -> Iterator[tuple[Atom, str, int]]:
    for name, each in axes.items():
        for dim, axis in enumerate(each):
            for atom in atoms_of(axis):
                yield atom, name, dim


def _first(atom: Atom, axes: Mapping[str, AxisTuple]) -> tuple[str, int]:
    return next((name, dim) for each, name, dim in _occurrences(axes) if each is atom)


def _names(
    axes: Mapping[str, AxisTuple], outer: Mapping[Atom, set[Atom]], sets: Mapping[Atom, Sequence[Atom]]
) -> dict[Atom, str]:
    """A name for each group: that of the first tensor it is in."""
    later = {member for members in sets.values() for member in members[1:]}
    names: dict[Atom, str] = {}
    for atom, tensor, _ in _occurrences(axes):
        if atom not in outer or atom in names or atom in later:
            continue
        base = tensor.removesuffix(".weight") + ("/inner" if outer[atom] else "")
        names[atom] = _unique(base, set(names.values()))
    return names


def _unique(base: str, taken: set[str]) -> str:
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}:{number}"
    return name


class _Namer:
    """Writes axes with the names of groups."""

    def __init__(
        self, names: Mapping[Atom, str], sets: Mapping[Atom, Sequence[Atom]], fixed: Mapping[Atom, str]
    ) -> None:
        self.leaves: dict[Atom, Expression] = {}
        for atom, name in names.items():
            start = 0
            for member in sets.get(atom, [atom]):
                self.leaves[member] = Neurons(name, member.size, start)
                start += member.size
        for atom, name in fixed.items():
            self.leaves[atom] = Fixed(atom.size, str(atom.cause), name)

    def all(self, axes: AxisTuple) -> tuple[Expression, ...]:
        return tuple(map(self.one, axes))

    def one(self, axis: Axis) -> Expression:
        if not any(atom in self.leaves for atom in atoms_of(axis)):
            return Fixed(length(axis), _reasons(axis))
        factors: list[Expression] = []
        for factor in axis:
            if isinstance(factor, Atom):
                factors.append(self.leaves.get(factor) or Fixed(factor.size, _reasons((factor,))))
            else:
                factors.append(Concat(tuple(map(self.one, factor.parts))))
        return factors[0] if len(factors) == 1 else Product(tuple(factors))


def _reasons(axis: Axis) -> str:
    causes: dict[Cause, None] = dict.fromkeys(atom.cause for atom in atoms_of(axis) if atom.cause is not None)
    return "; ".join(map(str, causes)) or ("of length one" if length(axis) == 1 else UNEXPLAINED)
