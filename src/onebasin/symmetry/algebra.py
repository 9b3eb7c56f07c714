"""Index sets of unknown permutation, and the equations between them.

While a model is traced, every axis of every tensor has an expression for how a permutation of neurons would act on it.
An `Axis` is a product of factors, outermost first (row-major, as `reshape` does it). A factor is an `Atom`, an index
set whose permutation is not known, or a `Sum`, axes laid one after the other (as `cat` does it). The empty product is
an axis of length one. An atom is *rigid* when only the identity is allowed; it then knows its `Cause`.

Each operation of the model asks for equations (`Algebra.unify`). Solving one may bind an atom to a product or a sum of
smaller atoms, and never frees anything: where two structures do not fit, both become rigid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True)
class Cause:
    """Why an axis cannot be permuted: what happened, in which operation, in which module ("" is the model)."""

    reason: str
    operation: str = ""
    module: str = ""

    def __str__(self) -> str:
        if not self.operation:
            return self.reason
        return f"{self.reason} ({self.operation} in {self.module or 'the model'})"


class Atom:
    """An index set with one unknown permutation; once `bound`, a name for an expression of smaller atoms."""

    __slots__ = ("bound", "cause", "serial", "size")
    _serials = count()

    def __init__(self, size: int, cause: Cause | None = None) -> None:
        self.serial = next(Atom._serials)
        self.size = size
        self.cause = cause
        self.bound: Axis | None = None

    def __repr__(self) -> str:
        return f"{'!' if self.cause else ''}{self.size}@{self.serial}"


def in_order(atoms: Iterable[Atom]) -> list[Atom]:
    """Atoms in the order in which they came into being, which is the same on every machine."""
    return sorted(atoms, key=lambda atom: atom.serial)


@dataclass(frozen=True)
class Sum:
    """Axes laid one after the other."""

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
    """Number of indices of an axis."""
    return math.prod(factor.size for factor in axis)


def resolve(axis: Axis) -> Axis:
    """Replace bound atoms by what they are bound to, and flatten sums of sums."""
    factors: list[Factor] = []
    for factor in axis:
        if isinstance(factor, Sum):
            pieces: list[Axis] = []
            for part in map(resolve, factor.parts):
                pieces.extend(part[0].parts if len(part) == 1 and isinstance(part[0], Sum) else [part])
            factors.append(Sum(tuple(pieces)))
        elif factor.bound is None:
            factors.append(factor)
        else:
            factor.bound = resolve(factor.bound)
            factors.extend(factor.bound)
    return tuple(factors)


def atoms_of(axis: Axis) -> Iterator[Atom]:
    """Every atom of a resolved axis, with repetitions."""
    for factor in axis:
        if isinstance(factor, Atom):
            yield factor
        else:
            for part in factor.parts:
                yield from atoms_of(part)


def rigidify(axis: Axis, cause: Cause) -> None:
    """Allow only the identity on an axis. What was rigid before keeps its cause."""
    for atom in atoms_of(resolve(axis)):
        if atom.cause is None:
            atom.cause = cause


def is_rigid(axis: Axis) -> bool:
    """Whether only the identity is allowed on an axis."""
    return all(atom.cause is not None for atom in atoms_of(resolve(axis)))


def fresh(size: int, cause: Cause | None = None) -> Axis:
    """An axis of its own, free or rigid."""
    return UNIT if size == 1 else (Atom(size, cause),)


def joined(parts: Iterable[Axis]) -> Axis:
    """Axes laid one after the other, as one axis."""
    kept = tuple(parts)
    return kept[0] if len(kept) == 1 else (Sum(kept),)


def parts_of(axis: Axis) -> list[Axis]:
    """The axes that a resolved axis is the sum of: products are multiplied out from the left."""
    if axis and isinstance(axis[0], Sum):
        return [piece for part in axis[0].parts for piece in parts_of((*part, *axis[1:]))]
    return [axis]


def bind(atom: Atom, axis: Axis) -> None:
    """Let a resolved axis of the same length take the place of a free or rigid atom."""
    if axis == (atom,):
        return
    if atom.cause is not None:
        rigidify(axis, atom.cause)
    atom.bound = axis


def cut(axis: Axis, position: int) -> tuple[Axis, Axis]:
    """Split an axis in two at `position`, which lies strictly inside."""
    pieces = parts_of(resolve(axis))
    left: list[Axis] = []
    while length(pieces[0]) <= position:
        piece = pieces.pop(0)
        left.append(piece)
        position -= length(piece)
    if position:
        before, after = _cut_product(pieces[0], position)
        left.append(before)
        pieces[0] = after
    return joined(left), joined(pieces)


def _cut_product(axis: Axis, position: int) -> tuple[Axis, Axis]:
    if is_rigid(axis):  # nothing can be learned from its parts; positions in long inputs are cut often
        cause = next(atoms_of(axis)).cause
        return fresh(position, cause), fresh(length(axis) - position, cause)
    head, rest = axis[0], axis[1:]
    assert isinstance(head, Atom)
    row, column = divmod(position, length(rest))
    if not column:
        before, after = _break(head, [row, head.size - row])
        return (*before, *rest), (*after, *rest)
    sizes = [row, 1, head.size - row - 1]
    above, _, below = _break(head, sizes)
    left, right = cut(rest, column)
    return (
        joined([(*above, *rest), left] if row else [left]),
        joined([right, (*below, *rest)] if sizes[2] else [right]),
    )


def _break(atom: Atom, sizes: Sequence[int]) -> list[Axis]:
    """Bind an atom to a sum of fresh ones. Sizes may be zero; their axes are not part of the sum."""
    pieces = [fresh(size, atom.cause) if size else UNIT for size in sizes]
    bind(atom, joined(piece for piece, size in zip(pieces, sizes, strict=True) if size))
    return pieces


def unify(first: Axis, second: Axis, cause: Cause) -> None:
    """Demand one permutation on two axes. Where their structures do not fit, both become rigid, for `cause`."""
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
    if is_rigid(first) and is_rigid(second) and not _are_atoms(first, second):
        return
    if len(first) == 1 and isinstance(first[0], Atom):
        _bind_or_rigidify(first[0], second, cause)
    elif len(second) == 1 and isinstance(second[0], Atom):
        _bind_or_rigidify(second[0], first, cause)
    elif isinstance(first[0], Sum) or isinstance(second[0], Sum):
        _unify_parts(first, second, cause)
    else:
        _unify_products(first, second, cause)


def _are_atoms(*axes: Axis) -> bool:
    return all(len(axis) == 1 and isinstance(axis[0], Atom) for axis in axes)


def _bind_or_rigidify(atom: Atom, axis: Axis, cause: Cause) -> None:
    if any(other is atom for other in atoms_of(axis)):  # an index set cannot be a part of itself
        rigidify(axis, cause)
        return
    other = axis[0]
    if _are_atoms(axis) and isinstance(other, Atom) and _precedence(atom) < _precedence(other):
        bind(other, (atom,))
    else:
        bind(atom, axis)


def _precedence(atom: Atom) -> tuple[bool, int]:
    """Of two atoms that become one, the first in this order stays: a rigid one, then the older one."""
    return atom.cause is None, atom.serial


def _unify_parts(first: Axis, second: Axis, cause: Cause) -> None:
    ahead, behind = parts_of(first), parts_of(second)
    while ahead:
        one, other = length(ahead[0]), length(behind[0])
        if one > other:
            ahead[:1] = cut(ahead[0], other)
        elif other > one:
            behind[:1] = cut(behind[0], one)
        unify(ahead.pop(0), behind.pop(0), cause)


def _unify_products(first: Axis, second: Axis, cause: Cause) -> None:
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


def regroup(axes: Sequence[Axis], sizes: Sequence[int], cause: Cause) -> list[Axis]:
    """The axes of a row-major reshape to `sizes`. Where factors do not fit the new sizes they become rigid."""
    result: list[Axis] = []
    remaining = list(axes)
    wanted = list(sizes)
    while remaining or wanted:
        source: list[Axis] = []
        target: list[int] = []
        before = after = 1
        while remaining or wanted:
            if wanted and (after < before or not remaining):
                target.append(wanted.pop(0))
                after *= target[-1]
            elif remaining:
                source.append(remaining.pop(0))
                before *= length(source[-1])
            if before == after and (source or target):
                break
        result.extend(source if [length(axis) for axis in source] == target else _regroup(source, target, cause))
    return result


def _regroup(axes: Sequence[Axis], sizes: Sequence[int], cause: Cause) -> list[Axis]:
    work = resolve(tuple(factor for axis in axes for factor in axis))
    result: list[Axis] = []
    for size in sizes:
        taken: Axis = UNIT
        while size > 1:
            factor = work[0]
            if size % factor.size == 0:
                taken = (*taken, factor)
                work = work[1:]
                size //= factor.size
            elif factor.size % size == 0:
                if isinstance(factor, Atom):
                    bind(factor, (*fresh(size), *fresh(factor.size // size)))
                    work = resolve(work)
                else:
                    work = resolve((*_stacked(factor, size, cause), *work[1:]))
                taken = resolve(taken)
            else:
                for axis in axes:
                    rigidify(axis, cause)
                return [fresh(extent, cause) for extent in sizes]
        result.append(taken)
    return result


def _stacked(whole: Sum, blocks: int, cause: Cause) -> Axis:
    """A sum as equal blocks, one below the other: the blocks stay where they are, and are permuted alike inside."""
    row = fresh(whole.size // blocks)
    rest: Axis = (whole,)
    for remaining in range(blocks, 0, -1):
        block, rest = cut(rest, length(row)) if remaining > 1 else (rest, UNIT)
        unify(block, row, cause)
    return (*fresh(blocks, cause), *row)
