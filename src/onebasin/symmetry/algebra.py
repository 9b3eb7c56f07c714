"""Axes as products and sums of index sets with unknown permutations, and equations between them.

During a trace, each axis of each tensor has an expression that describes how a permutation of neurons acts on it.
An `Axis` is a product of factors, outermost first, in the row-major order of `reshape`. A factor is an `Atom`, an index
set whose permutation is unknown, or a `Sum`, a concatenation of axes as `cat` makes it. The empty product is an axis of
length one. An atom is *rigid* if only the identity is allowed; its `Cause` records the reason.

Each traced operation adds equations with `unify`. To solve an equation, `unify` may bind an atom to a product or a sum
of smaller atoms. It never turns a rigid atom into a free one: where two structures do not fit each other, it makes both
rigid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True)
class Cause:
    """Why an axis cannot be permuted: a reason, the operation, and the path of its module ("" is the model itself)."""

    reason: str
    operation: str = ""
    module: str = ""

    def __str__(self) -> str:
        if not self.operation:
            return self.reason
        return f"{self.reason} ({self.operation} in {self.module or 'the model'})"


class Atom:
    """An index set with one unknown permutation. Once `bound` is set, the atom is an alias of that axis."""

    __slots__ = ("bound", "cause", "serial", "size")
    _serials = count()

    def __init__(self, size: int, cause: Cause | None = None) -> None:
        self.serial = next(Atom._serials)
        self.size = size
        self.cause = cause
        self.bound: Axis | None = None

    def __repr__(self) -> str:
        return f"{'!' if self.cause else ''}{self.size}@{self.serial}"


def in_creation_order(atoms: Iterable[Atom]) -> list[Atom]:
    """Sort atoms by their creation, which makes the order the same on every machine."""
    return sorted(atoms, key=lambda atom: atom.serial)


@dataclass(frozen=True)
class Sum:
    """A concatenation of axes."""

    parts: tuple[Axis, ...]

    @property
    def size(self) -> int:
        return sum(map(length, self.parts))


Factor = Atom | Sum
Axis = tuple[Factor, ...]
UNIT: Axis = ()

Axes = list[Axis]
"""The axes of one tensor, by dimension."""


def length(axis: Axis) -> int:
    """The number of indices of an axis."""
    return math.prod(factor.size for factor in axis)


def resolve(axis: Axis) -> Axis:
    """Replace bound atoms by the axes they are bound to, and flatten sums of sums."""
    factors: list[Factor] = []
    for factor in axis:
        if isinstance(factor, Sum):
            parts: list[Axis] = []
            for part in map(resolve, factor.parts):
                parts.extend(part[0].parts if len(part) == 1 and isinstance(part[0], Sum) else [part])
            factors.append(Sum(tuple(parts)))
        elif factor.bound is None:
            factors.append(factor)
        else:
            factor.bound = resolve(factor.bound)
            factors.extend(factor.bound)
    return tuple(factors)


def atoms_of(axis: Axis) -> Iterator[Atom]:
    """Yield every atom of a resolved axis, with repetitions."""
    for factor in axis:
        if isinstance(factor, Atom):
            yield factor
        else:
            for part in factor.parts:
                yield from atoms_of(part)


def rigidify(axis: Axis, cause: Cause) -> None:
    """Allow only the identity on an axis. Atoms that are rigid already keep their cause."""
    for atom in atoms_of(resolve(axis)):
        if atom.cause is None:
            atom.cause = cause


def is_rigid(axis: Axis) -> bool:
    """Whether only the identity is allowed on an axis."""
    return all(atom.cause is not None for atom in atoms_of(resolve(axis)))


def fresh(size: int, cause: Cause | None = None) -> Axis:
    """A new axis of one atom: free, or rigid if a cause is given."""
    return UNIT if size == 1 else (Atom(size, cause),)


def concatenated(parts: Iterable[Axis]) -> Axis:
    """The concatenation of axes as one axis."""
    axes = tuple(parts)
    return axes[0] if len(axes) == 1 else (Sum(axes),)


def summands_of(axis: Axis) -> list[Axis]:
    """The axes whose concatenation a resolved axis is. Only a leading sum is multiplied out."""
    if axis and isinstance(axis[0], Sum):
        return [piece for part in axis[0].parts for piece in summands_of((*part, *axis[1:]))]
    return [axis]


def bind(atom: Atom, axis: Axis) -> None:
    """Bind a free or rigid atom to a resolved axis of the same length. A rigid atom makes that axis rigid."""
    if axis == (atom,):
        return
    if atom.cause is not None:
        rigidify(axis, atom.cause)
    atom.bound = axis


def split_axis(axis: Axis, position: int) -> tuple[Axis, Axis]:
    """Split an axis in two at `position`, which must be greater than 0 and less than the length."""
    parts = summands_of(resolve(axis))
    left: list[Axis] = []
    while length(parts[0]) <= position:
        piece = parts.pop(0)
        left.append(piece)
        position -= length(piece)
    if position:
        before, after = _split_product(parts[0], position)
        left.append(before)
        parts[0] = after
    return concatenated(left), concatenated(parts)


def _split_product(axis: Axis, position: int) -> tuple[Axis, Axis]:
    """Split a resolved axis other than a sum at `position`: in its outermost atom and, if necessary, in the others."""
    if is_rigid(axis):  # its parts add no information, and the positions of long inputs are split often
        cause = next(atoms_of(axis)).cause
        return fresh(position, cause), fresh(length(axis) - position, cause)
    outer, rest = axis[0], axis[1:]
    assert isinstance(outer, Atom)
    row, column = divmod(position, length(rest))
    if not column:
        before, after = _split_atom(outer, [row, outer.size - row])
        return (*before, *rest), (*after, *rest)
    sizes = [row, 1, outer.size - row - 1]
    above, _, below = _split_atom(outer, sizes)
    left, right = split_axis(rest, column)
    return (
        concatenated([(*above, *rest), left] if row else [left]),
        concatenated([right, (*below, *rest)] if sizes[2] else [right]),
    )


def _split_atom(atom: Atom, sizes: Sequence[int]) -> list[Axis]:
    """Bind an atom to a sum of new atoms. A size may be zero; its axis is then not part of the sum."""
    parts = [fresh(size, atom.cause) if size else UNIT for size in sizes]
    bind(atom, concatenated(piece for piece, size in zip(parts, sizes, strict=True) if size))
    return parts


def unify(first: Axis, second: Axis, cause: Cause) -> None:
    """Require the same permutation on two axes. Where their structures do not fit, make both rigid with `cause`."""
    first, second = resolve(first), resolve(second)
    if length(first) != length(second):
        rigidify(first, cause)
        rigidify(second, cause)
        return
    if not length(first):
        return
    while first and second and first[0] == second[0]:
        first, second = first[1:], second[1:]
    while first and second and first[-1] == second[-1]:
        first, second = first[:-1], second[:-1]
    if not first and not second:
        return
    if is_rigid(first) and is_rigid(second) and not _are_single_atoms(first, second):
        return
    if len(first) == 1 and isinstance(first[0], Atom):
        _bind_or_rigidify(first[0], second, cause)
    elif len(second) == 1 and isinstance(second[0], Atom):
        _bind_or_rigidify(second[0], first, cause)
    elif isinstance(first[0], Sum) or isinstance(second[0], Sum):
        _unify_parts(first, second, cause)
    else:
        _unify_products(first, second, cause)


def _are_single_atoms(*axes: Axis) -> bool:
    """Whether each of these axes is a single atom."""
    return all(len(axis) == 1 and isinstance(axis[0], Atom) for axis in axes)


def _bind_or_rigidify(atom: Atom, axis: Axis, cause: Cause) -> None:
    """Bind an atom to a resolved axis. An axis that contains the atom becomes rigid instead."""
    if any(other is atom for other in atoms_of(axis)):  # an index set cannot be a proper part of itself
        rigidify(axis, cause)
        return
    other = axis[0]
    if _are_single_atoms(axis) and isinstance(other, Atom) and _precedence(atom) < _precedence(other):
        bind(other, (atom,))
    else:
        bind(atom, axis)


def _precedence(atom: Atom) -> tuple[bool, int]:
    """The sort key of two atoms of which the smaller remains: a rigid atom before a free one, then the older one."""
    return atom.cause is None, atom.serial


def _unify_parts(first: Axis, second: Axis, cause: Cause) -> None:
    """Unify two axes of which one is a sum, part by part. Parts are split until their lengths agree."""
    first_parts, second_parts = summands_of(first), summands_of(second)
    while first_parts:
        one, other = length(first_parts[0]), length(second_parts[0])
        if one > other:
            first_parts[:1] = split_axis(first_parts[0], other)
        elif other > one:
            second_parts[:1] = split_axis(second_parts[0], one)
        unify(first_parts.pop(0), second_parts.pop(0), cause)


def _unify_products(first: Axis, second: Axis, cause: Cause) -> None:
    """Unify two products factor by factor, outermost first. If the outer sizes differ, the larger atom is split."""
    outer, other = first[0], second[0]
    assert isinstance(outer, Atom)
    assert isinstance(other, Atom)
    if outer.size < other.size:
        _unify_products(second, first, cause)
    elif outer.size == other.size:
        unify((outer,), (other,), cause)
        unify(first[1:], second[1:], cause)
    elif outer.size % other.size == 0:
        inner = fresh(outer.size // other.size)
        _bind_or_rigidify(outer, (other, *inner), cause)
        unify((*inner, *first[1:]), second[1:], cause)
    else:
        rigidify(first, cause)
        rigidify(second, cause)


def reshape_axes(axes: Sequence[Axis], sizes: Sequence[int], cause: Cause) -> list[Axis]:
    """The axes after a row-major reshape to `sizes`. Factors that do not fit the new sizes become rigid."""
    result: list[Axis] = []
    remaining = list(axes)
    target_sizes = list(sizes)
    while remaining or target_sizes:
        source: list[Axis] = []
        target: list[int] = []
        before = after = 1
        while remaining or target_sizes:
            if target_sizes and (after < before or not remaining):
                target.append(target_sizes.pop(0))
                after *= target[-1]
            elif remaining:
                source.append(remaining.pop(0))
                before *= length(source[-1])
            if before == after and (source or target):
                break
        result.extend(source if [length(axis) for axis in source] == target else _reshape_block(source, target, cause))
    return result


def _reshape_block(axes: Sequence[Axis], sizes: Sequence[int], cause: Cause) -> list[Axis]:
    """Reshape axes to sizes with the same product, where no shorter run of axes and sizes has equal products."""
    unread = resolve(tuple(factor for axis in axes for factor in axis))
    result: list[Axis] = []
    for size in sizes:
        collected: Axis = UNIT
        while size > 1:
            factor = unread[0]
            if size % factor.size == 0:
                collected = (*collected, factor)
                unread = unread[1:]
                size //= factor.size
            elif factor.size % size == 0:
                if isinstance(factor, Atom):
                    bind(factor, (*fresh(size), *fresh(factor.size // size)))
                    unread = resolve(unread)
                else:
                    unread = resolve((*_split_into_blocks(factor, size, cause), *unread[1:]))
                collected = resolve(collected)
            else:
                for axis in axes:
                    rigidify(axis, cause)
                return [fresh(extent, cause) for extent in sizes]
        result.append(collected)
    return result


def _split_into_blocks(whole: Sum, blocks: int, cause: Cause) -> Axis:
    """Split a sum into equal blocks, of which the order is fixed and the inner permutation is the same."""
    row = fresh(whole.size // blocks)
    rest: Axis = (whole,)
    for remaining in range(blocks, 0, -1):
        block, rest = split_axis(rest, length(row)) if remaining > 1 else (rest, UNIT)
        unify(block, row, cause)
    return (*fresh(blocks, cause), *row)
