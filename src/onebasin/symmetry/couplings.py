"""Permutations that may differ from place to place: which atoms may have one permutation per index of which others.

Inside an attention head, neurons can be permuted differently in each head; inside a normalisation group, differently in
each group. An atom may have a permutation of its own for each index of another (its *outer* atom) where every tensor
that has the one also has the other, in one place, and no operation mixes indices of the outer atom without mixing those
of the inner one. `Couplings` collects what the trace shows of that, and concludes when the trace is over.

Three more things wait for the end of the trace, because they depend on how axes were split later:
blocks that a group normalisation keeps together; axes that were taken apart by index (query, key and value in one
tensor, picked by 0, 1, 2), which become sums of the parts picked; and zero paddings on both sides of an axis, which are
one set of interchangeable neurons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from onebasin.symmetry.algebra import (
    Atom,
    Axis,
    Cause,
    Sum,
    atoms_of,
    cut,
    fresh,
    in_order,
    is_rigid,
    joined,
    length,
    parts_of,
    resolve,
    rigidify,
    unify,
)

AxisTuple = tuple[Axis, ...]


@dataclass
class Couplings:
    """What the trace showed of tensors, of mixing operations, and of what waits for its end."""

    observed: dict[AxisTuple, None] = field(default_factory=dict)
    mixed: dict[tuple[AxisTuple, AxisTuple], None] = field(default_factory=dict)
    blocks: list[tuple[Axis, int, Cause]] = field(default_factory=list)
    picks: dict[tuple[Atom, Atom], dict[int, Axis]] = field(default_factory=dict)
    paddings: list[tuple[Axis, Axis]] = field(default_factory=list)
    distinct: list[tuple[Axis, ...]] = field(default_factory=list)
    consumed: dict[Axis, None] = field(default_factory=dict)
    zeroed: dict[Axis, None] = field(default_factory=dict)
    apart: set[tuple[Atom, Atom]] = field(default_factory=set)

    def observe(self, axes: Iterable[Axis]) -> None:
        """Note that a tensor with these axes exists."""
        self.observed[tuple(map(resolve, axes))] = None

    def mix(self, inner: Iterable[Axis], outer: Iterable[Axis]) -> None:
        """Note that an operation mixes indices of `outer` axes, at each index of the `inner` ones."""
        self.mixed[tuple(map(resolve, inner)), tuple(map(resolve, outer))] = None

    def consume(self, axes: Iterable[Axis]) -> None:
        """Note that something was computed from all indices of these axes together, so that they are in use."""
        self.consumed.update(dict.fromkeys(map(resolve, axes)))

    def zero(self, axes: Iterable[Axis]) -> None:
        """Note that along these axes there were only products with zeros, which say nothing about the other factor."""
        self.zeroed.update(dict.fromkeys(map(resolve, axes)))

    def forget_unused(self, tensors: Iterable[AxisTuple]) -> None:
        """Make rigid what nothing was computed from: parts that were cut off, and tensors only multiplied by zeros."""
        in_use = {atom for axis in self.consumed for atom in atoms_of(resolve(axis))}
        zeroed = {atom for axis in self.zeroed for atom in atoms_of(resolve(axis))} - in_use
        for axes in tensors:
            atoms = {atom for axis in axes for atom in atoms_of(resolve(axis)) if atom.cause is None}
            if atoms & zeroed:
                for axis in axes:
                    rigidify(axis, Cause("its tensor was multiplied by zeros only (is the example a single step?)"))
            for atom in atoms - in_use - zeroed:
                atom.cause = Cause("cut off before it had any effect")

    def block(self, axis: Axis, count: int, cause: Cause) -> None:
        """Demand that permutations of an axis keep `count` equal blocks together."""
        self.blocks.append((axis, count, cause))

    def pick(self, axes: Sequence[Axis], dim: int, index: int, cause: Cause) -> list[Axis]:
        """The other axes of a tensor of which index `index` of axis `dim` is taken."""
        others = [resolve(axis) for place, axis in enumerate(axes) if place != dim]
        picked = resolve(axes[dim])
        if len(picked) == 1 and isinstance(picked[0], Atom):
            outer = picked[0]
            inner = {a for axis in others for a in atoms_of(axis) if a.cause is None and a is not outer}
            apart = [atom for atom in in_order(inner) if self._always_with(atom, outer)]
            if apart:
                rigidify(picked, cause)
                parts = {a: self.picks.setdefault((a, outer), {}).setdefault(index, fresh(a.size)) for a in apart}
                return [replaced(axis, parts) for axis in others]
        if not is_rigid(picked):
            if index:
                _, picked = cut(picked, index)
            if length(picked) > 1:
                cut(picked, 1)
        return others

    def lay(self, parts: Sequence[Axis], below: Axis, cause: Cause) -> Axis:
        """An axis that is `parts[i]` at index i of the axis `below`; the reverse of `pick`."""
        outer = _single(below)
        if outer is None or all(map(is_rigid, parts)):
            for part in parts[1:]:
                unify(parts[0], part, cause)
            return parts[0]
        axis = fresh(length(parts[0]))
        inner = _single(axis)
        assert inner is not None
        self.picks[inner, outer] = dict(enumerate(parts))
        return axis

    def _always_with(self, inner: Atom, outer: Atom) -> bool:
        if (inner, outer) in self.apart:
            return False
        for axes in self.observed:
            present = {atom for axis in axes for atom in atoms_of(resolve(axis))}
            if inner in present and outer not in present:
                self.apart.add((inner, outer))
                return False
        return True

    def settle(self, tensors: dict[str, AxisTuple], outputs: dict[str, AxisTuple]) -> None:
        """Conclude what waited for the end of the trace, and change the tensors' axes to what they are then.

        tensors: the model's state, all of which must be described. outputs: tensors that are described where possible.
        """
        while any(_cut_at_blocks(axis, count) for axis, count, _ in self.blocks):
            pass
        for axis, count, cause in sorted(self.blocks, key=lambda each: each[1] / length(each[0])):
            self._keep_blocks(axis, count, cause)
        while self.picks:
            outer_key = next(iter(self.picks))[1]
            alike = [key for key in self.picks if resolve((key[1],)) == resolve((outer_key,))]
            self._take_apart(outer_key, [(key[0], self.picks.pop(key)) for key in alike], tensors, outputs)

    def _keep_blocks(self, axis: Axis, count: int, cause: Cause) -> None:
        """Parts that lie within one block stay as they are; one over several blocks has blocks, and places in them."""
        size = length(axis) // count
        homes: dict[int, list[Axis]] = {}
        offset = 0
        for part in parts_of(resolve(axis)):
            extent = length(part)
            if is_rigid(part):
                pass
            elif extent > size:
                outer, inner = fresh(extent // size), fresh(size)
                unify(part, (*outer, *inner), cause)
                self.mix([outer], [inner])
            else:
                homes.setdefault(offset // size, []).append(part)
            offset += extent
        self.distinct.append(tuple(joined(parts) for parts in homes.values()))

    def _take_apart(
        self,
        key: Atom,
        family: list[tuple[Atom, dict[int, Axis]]],
        tensors: dict[str, AxisTuple],
        outputs: dict[str, AxisTuple],
    ) -> None:
        """Let every atom that was picked by an index of `key` become one atom per index, where that is sound."""
        outer = _single(resolve((key,)))
        while family:
            parts = _gathered(family) if outer is not None else {}
            index = self.index()
            sound = {
                inner
                for inner in parts
                if outer in self.outer_atoms(inner, index)
                and all(_stands_left(outer, inner, a) for a in tensors.values())
            }
            refused = [each for each in family if _single(resolve((each[0],))) not in sound]
            if not refused:
                if outer is not None:
                    self._expand(outer, parts, tensors, outputs)
                return
            family = [each for each in family if each not in refused]
            for atom, picked in refused:
                for part in picked.values():
                    unify(part, (atom,), Cause("one permutation for several parts of a tensor"))

    def _expand(self, outer: Atom, parts: dict[Atom, dict[int, Axis]], *described: dict[str, AxisTuple]) -> None:
        unused = Cause("never picked from its tensor")
        choices = [
            {inner: picked.get(index, fresh(inner.size, unused)) for inner, picked in parts.items()}
            for index in range(outer.size)
        ]
        self.observed = dict.fromkeys(each for axes in self.observed for each in _restricted(axes, outer, choices))
        self.consumed = dict.fromkeys(
            replaced(resolve(axis), choice)
            for axis in self.consumed
            for choice in ([{}, *choices] if any(_mentions((axis,), atom) for atom in parts) else [{}])
        )
        self.mixed = dict.fromkeys(
            (_replaced_in(inside, choice), _replaced_in(outside, choice))
            for inside, outside in self.mixed
            for choice in ([{}, *choices] if any(_mentions((*inside, *outside), atom) for atom in parts) else [{}])
        )
        for tensors in described:
            for name, axes in tensors.items():
                tensors[name] = tuple(_expanded(resolve(axis), outer, choices) for axis in axes)

    def index(self) -> dict[Atom, set[AxisTuple]]:
        """The different tensors that were observed, under each of their atoms that is not rigid."""
        found: dict[Atom, set[AxisTuple]] = {}
        for axes in {tuple(resolve(axis) for axis in axes) for axes in self.observed}:
            for atom in {atom for axis in axes for atom in atoms_of(axis) if atom.cause is None}:
                found.setdefault(atom, set()).add(axes)
        return found

    def outer_atoms(self, inner: Atom, index: dict[Atom, set[AxisTuple]]) -> frozenset[Atom]:
        """The atoms for each index of which `inner` may have a permutation of its own."""
        shared: set[Atom] | None = None
        for axes in index.get(inner, ()):
            for found in companions(axes, inner):
                shared = found if shared is None else shared & found
                if not shared:
                    return frozenset()
        for inside, outside in self.mixed:
            if shared and _mentions(inside, inner):
                shared -= {atom for axis in outside for atom in atoms_of(resolve(axis))}
        return frozenset(shared or ())

    def one_set(self, first: Atom, second: Atom) -> bool:
        """Whether two paddings of an axis are permuted alike everywhere, so that their neurons can change places."""
        for pieces in self.distinct:
            homes = [set(atoms_of(resolve(piece))) for piece in pieces]
            if any((first in home) != (second in home) for home in homes):
                return False
        return all(_side_by_side(resolve(axis), first, second) for axes in self.observed for axis in axes)


def _cut_at_blocks(axis: Axis, count: int) -> bool:
    """Cut every part of an axis that begins or ends inside of a block and reaches into another. True if one was cut."""
    size = length(axis) // count
    offset = 0
    for part in parts_of(resolve(axis)):
        start, extent = offset % size, length(part)
        if start + extent > size and (start or extent % size) and not is_rigid(part):
            cut(part, size - start if start else extent - extent % size)
            return True
        offset += extent
    return False


def companions(axes: Sequence[Axis], inner: Atom) -> Iterator[set[Atom]]:
    """For each place of `inner` in a tensor: the atoms whose index is known, without doubt, at that place."""
    for place, axis in enumerate(axes):
        elsewhere = Counter(f for other, a in enumerate(axes) if other != place for f in a if isinstance(f, Atom))
        for chain in _chains(axis, inner, ()):
            here = Counter(chain)
            yield {
                atom
                for atom in {*here, *elsewhere}
                if atom is not inner and (here[atom] == 1 or (not here[atom] and elsewhere[atom] == 1))
            }


def _chains(axis: Axis, inner: Atom, above: tuple[Atom, ...]) -> Iterator[tuple[Atom, ...]]:
    for place, factor in enumerate(axis):
        beside = (*above, *(f for i, f in enumerate(axis) if i != place and isinstance(f, Atom)))
        if factor is inner:
            yield beside
        elif isinstance(factor, Sum):
            for part in factor.parts:
                yield from _chains(part, inner, beside)


def replaced(axis: Axis, choice: dict[Atom, Axis]) -> Axis:
    """A resolved axis with some atoms exchanged for others."""
    factors: list[Sum | Atom] = []
    for factor in axis:
        if isinstance(factor, Sum):
            factors.append(Sum(tuple(replaced(part, choice) for part in factor.parts)))
        else:
            factors.extend(choice.get(factor, (factor,)))
    return tuple(factors)


def _single(axis: Axis) -> Atom | None:
    return axis[0] if len(axis) == 1 and isinstance(axis[0], Atom) else None


def _gathered(family: list[tuple[Atom, dict[int, Axis]]]) -> dict[Atom, dict[int, Axis]]:
    """The parts that were picked, by the atom that each stands for now. Left out: atoms whose parts are all alike."""
    parts: dict[Atom, dict[int, Axis]] = {}
    for atom, picked in family:
        inner = _single(resolve((atom,)))
        if inner is not None and inner.cause is None:
            known = parts.setdefault(inner, {})
            for index, part in picked.items():
                unify(known.setdefault(index, part), part, Cause("picked twice"))
    return {
        inner: picked
        for inner, picked in parts.items()
        if resolve((inner,)) == (inner,) and len({resolve(part) for part in picked.values()}) > 1
    }


def _stands_left(outer: Atom, inner: Atom, axes: AxisTuple) -> bool:
    """Whether `inner`, wherever it stands in a tensor, is a factor further inside of a product with `outer`."""

    def holds(axis: Axis) -> bool:
        for place, factor in enumerate(axis):
            if factor is outer:
                return not any(_mentions(((f,),), inner) for f in axis[:place])
            if factor is inner:
                return False
            if isinstance(factor, Sum) and _mentions(((factor,),), inner) and not all(map(holds, factor.parts)):
                return False
        return True

    return all(holds(resolve(axis)) for axis in axes)


def _expanded(axis: Axis, outer: Atom, choices: Sequence[dict[Atom, Axis]]) -> Axis:
    for place, factor in enumerate(axis):
        if factor is outer:
            inside = axis[place + 1 :]
            return resolve((*axis[:place], Sum(tuple(replaced(inside, choice) for choice in choices))))
        if isinstance(factor, Sum):
            parts = tuple(_expanded(part, outer, choices) for part in factor.parts)
            axis = (*axis[:place], Sum(parts), *axis[place + 1 :])
    return resolve(axis)


def _restricted(axes: AxisTuple, outer: Atom, choices: Sequence[dict[Atom, Axis]]) -> list[AxisTuple]:
    """The tensor at each index of `outer`, if it has that axis."""
    resolved = [resolve(axis) for axis in axes]
    if not any(factor is outer for axis in resolved for factor in axis):
        return [tuple(resolved)]
    without: list[Axis] = [tuple(factor for factor in axis if factor is not outer) for axis in resolved]
    return [tuple(replaced(axis, choice) for axis in without) for choice in choices]


def _replaced_in(axes: AxisTuple, choice: dict[Atom, Axis]) -> AxisTuple:
    return tuple(replaced(resolve(axis), choice) for axis in axes)


def _mentions(axes: Iterable[Axis], atom: Atom) -> bool:
    return any(atom is other for axis in axes for other in atoms_of(resolve(axis)))


def _side_by_side(axis: Axis, first: Atom, second: Atom) -> bool:
    """Whether the two stand in the same sums, once each, alone in their parts."""
    if (first in axis) or (second in axis):
        return False
    for factor in axis:
        if isinstance(factor, Sum):
            alone = Counter(part[0] for part in factor.parts if len(part) == 1)
            if alone[first] != alone[second] or alone[first] > 1:
                return False
            rest = [part for part in factor.parts if len(part) != 1 or part[0] not in (first, second)]
            if alone[first] and (_mentions(rest, first) or _mentions(rest, second)):
                return False  # which of the one belongs to which of the other would depend on the tensor
            if not all(_side_by_side(part, first, second) for part in rest):
                return False
    return True
