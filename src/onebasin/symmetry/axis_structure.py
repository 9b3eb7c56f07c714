"""Substitutions in axes, and tests of where atoms occur in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from onebasin.symmetry.algebra import Atom, Axis, Sum, atoms_of, is_rigid, length, resolve, split_axis, summands_of

AxisTuple = tuple[Axis, ...]
"""The axes of one tensor, by dimension, in a hashable form."""


def split_at_blocks(axis: Axis, count: int) -> bool:
    """Split the first part of an axis that crosses a block boundary without being whole blocks.

    count: number of equal blocks of the axis. Returns whether a part was split.
    """
    size = length(axis) // count
    offset = 0
    for part in summands_of(resolve(axis)):
        start, extent = offset % size, length(part)
        if start + extent > size and (start or extent % size) and not is_rigid(part):
            split_axis(part, size - start if start else extent - extent % size)
            return True
        offset += extent
    return False


def atoms_with_known_index(axes: Sequence[Axis], inner: Atom) -> Iterator[set[Atom]]:
    """For each occurrence of `inner` in a tensor, the atoms that have one unambiguous index at that occurrence."""
    for position, axis in enumerate(axes):
        other_axes = Counter(f for other, a in enumerate(axes) if other != position for f in a if isinstance(f, Atom))
        for chain in _enclosing_atoms(axis, inner, ()):
            same_product = Counter(chain)
            yield {
                atom
                for atom in {*same_product, *other_axes}
                if atom is not inner and (same_product[atom] == 1 or (not same_product[atom] and other_axes[atom] == 1))
            }


def _enclosing_atoms(axis: Axis, inner: Atom, enclosing: tuple[Atom, ...]) -> Iterator[tuple[Atom, ...]]:
    """For each occurrence of `inner` in an axis, the atoms in its own product and in the products around it."""
    for position, factor in enumerate(axis):
        siblings = (*enclosing, *(f for i, f in enumerate(axis) if i != position and isinstance(f, Atom)))
        if factor is inner:
            yield siblings
        elif isinstance(factor, Sum):
            for part in factor.parts:
                yield from _enclosing_atoms(part, inner, siblings)


def substitute(axis: Axis, replacements: dict[Atom, Axis]) -> Axis:
    """A resolved axis with some atoms replaced by axes."""
    factors: list[Sum | Atom] = []
    for factor in axis:
        if isinstance(factor, Sum):
            factors.append(Sum(tuple(substitute(part, replacements) for part in factor.parts)))
        else:
            factors.extend(replacements.get(factor, (factor,)))
    return tuple(factors)


def single_atom(axis: Axis) -> Atom | None:
    """The atom of an axis that is a single atom, else None."""
    return axis[0] if len(axis) == 1 and isinstance(axis[0], Atom) else None


def always_inside(outer: Atom, inner: Atom, axes: AxisTuple) -> bool:
    """Whether every occurrence of `inner` in a tensor is a factor further inside than `outer` in the same product."""

    def inside(axis: Axis) -> bool:
        for position, factor in enumerate(axis):
            if factor is outer:
                return not any(mentions(((f,),), inner) for f in axis[:position])
            if factor is inner:
                return False
            if isinstance(factor, Sum) and mentions(((factor,),), inner) and not all(map(inside, factor.parts)):
                return False
        return True

    return all(inside(resolve(axis)) for axis in axes)


def expand_atom(axis: Axis, outer: Atom, choices: Sequence[dict[Atom, Axis]]) -> Axis:
    """A resolved axis with `outer` and the factors after it replaced by a sum over the indices of `outer`.

    choices: for each index of `outer`, the replacements of atoms in the summand of that index.
    """
    for position, factor in enumerate(axis):
        if factor is outer:
            inside = axis[position + 1 :]
            return resolve((*axis[:position], Sum(tuple(substitute(inside, replacements) for replacements in choices))))
        if isinstance(factor, Sum):
            parts = tuple(expand_atom(part, outer, choices) for part in factor.parts)
            axis = (*axis[:position], Sum(parts), *axis[position + 1 :])
    return resolve(axis)


def slices_along(axes: AxisTuple, outer: Atom, choices: Sequence[dict[Atom, Axis]]) -> list[AxisTuple]:
    """The axes of a tensor at each index of `outer`, or the whole tensor if it does not have this atom as a factor.

    choices: for each index of `outer`, the replacements of atoms in the slice.
    """
    resolved = [resolve(axis) for axis in axes]
    if not any(factor is outer for axis in resolved for factor in axis):
        return [tuple(resolved)]
    remaining: list[Axis] = [tuple(factor for factor in axis if factor is not outer) for axis in resolved]
    return [tuple(substitute(axis, replacements) for axis in remaining) for replacements in choices]


def substitute_all(axes: AxisTuple, replacements: dict[Atom, Axis]) -> AxisTuple:
    """Replace some atoms in all axes of a tensor."""
    return tuple(substitute(resolve(axis), replacements) for axis in axes)


def mentions(axes: Iterable[Axis], atom: Atom) -> bool:
    """Whether an atom occurs in one of these axes."""
    return any(atom is other for axis in axes for other in atoms_of(resolve(axis)))


def occur_together(axis: Axis, first: Atom, second: Atom) -> bool:
    """Whether every sum in an axis that contains one of two atoms contains both, once each, as parts of their own."""
    if (first in axis) or (second in axis):
        return False
    for factor in axis:
        if isinstance(factor, Sum):
            alone = Counter(part[0] for part in factor.parts if len(part) == 1)
            if alone[first] != alone[second] or alone[first] > 1:
                return False
            rest = [part for part in factor.parts if len(part) != 1 or part[0] not in (first, second)]
            if alone[first] and (mentions(rest, first) or mentions(rest, second)):
                return False  # the pairing of the two atoms' neurons would depend on the tensor
            if not all(occur_together(part, first, second) for part in rest):
                return False
    return True
