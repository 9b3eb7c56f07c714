"""Nested permutations: an atom may have a different permutation at each index of another atom.

An *atom* is a set of indices with one unknown permutation; an axis of a tensor is a product or a concatenation of atoms
(algebra.py). An atom is *rigid* if only the identity is allowed, and otherwise *free*.
Example: an attention layer has 4 heads of 16 neurons. Its axis of length 64 is the product of an outer atom (the 4
heads) and an inner atom (the 16 neurons of a head). The heads can be permuted, and inside each head its 16 neurons can
be permuted in an order of its own: the inner atom has a permutation for each index of the outer atom. The same holds
for the channels inside the groups of a group normalisation.

This nesting is correct under two conditions:
1. Each tensor that has the inner atom also has the outer atom, and it is unambiguous at which index of the outer atom
   each entry is. (A tensor with the 16 neurons, but without the heads, would be shared by all heads.)
2. No operation combines different indices of the outer atom while it keeps the indices of the inner one. (A sum over
   heads adds neuron i of all heads, so all heads must have the same order.)
These facts couple atoms; `Couplings` collects them during the trace and draws the conclusions at its end.

Three other constraints wait for the end of the trace, because they depend on how axes are split later:
- A group normalisation requires that the blocks of an axis stay together.
- An operation takes single indices of an axis: of a tensor with query, key and value at indices 0, 1 and 2, it takes
  each by its index. Such an axis becomes a concatenation (`Sum`) of parts, one for each index.
- Padding adds zeros before and after an axis. All these zeros are alike, so they are interchangeable neurons.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from onebasin.symmetry.algebra import (
    Atom,
    Axis,
    Cause,
    atoms_of,
    concatenated,
    fresh,
    in_creation_order,
    is_rigid,
    length,
    resolve,
    rigidify,
    split_axis,
    summands_of,
    unify,
)
from onebasin.symmetry.axis_structure import (
    AxisTuple,
    always_inside,
    atoms_with_known_index,
    expand_atom,
    mentions,
    occur_together,
    single_atom,
    slices_along,
    split_at_blocks,
    substitute,
    substitute_all,
)


@dataclass
class Couplings:
    """The facts that the trace collects about tensors and mixing operations, and the constraints deferred to its end.

    observed: the axes of all tensors. mixing: the arguments of every `mix`. blocks: the arguments of every
    `keep_blocks`.
    picks: by inner and outer atom: for each index of the outer atom that was taken (`pick`), the axis that the inner
    atom has there. paddings: pairs of equal paddings. distinct_parts: parts of an axis; a neuron of one part cannot
    change places with a neuron of another.
    used: axes that contributed to a result. multiplied_by_zero: axes that only entered products with zeros.
    not_always_together: pairs (inner, outer) of atoms; some tensor has the inner atom without the outer one.
    """

    observed: dict[AxisTuple, None] = field(default_factory=dict)
    mixing: dict[tuple[AxisTuple, AxisTuple], None] = field(default_factory=dict)
    blocks: list[tuple[Axis, int, Cause]] = field(default_factory=list)
    picks: dict[tuple[Atom, Atom], dict[int, Axis]] = field(default_factory=dict)
    paddings: list[tuple[Axis, Axis]] = field(default_factory=list)
    distinct_parts: list[tuple[Axis, ...]] = field(default_factory=list)
    used: dict[Axis, None] = field(default_factory=dict)
    multiplied_by_zero: dict[Axis, None] = field(default_factory=dict)
    not_always_together: set[tuple[Atom, Atom]] = field(default_factory=set)

    def observe(self, axes: Iterable[Axis]) -> None:
        """Record that a tensor with these axes exists."""
        self.observed[tuple(map(resolve, axes))] = None

    def mix(self, kept: Iterable[Axis], mixed: Iterable[Axis]) -> None:
        """Record that an operation combines the indices of the `mixed` axes, at each index of the `kept` axes."""
        self.mixing[tuple(map(resolve, kept)), tuple(map(resolve, mixed))] = None

    def mark_used(self, axes: Iterable[Axis]) -> None:
        """Record that a result was computed from all indices of these axes."""
        self.used.update(dict.fromkeys(map(resolve, axes)))

    def mark_zeroed(self, axes: Iterable[Axis]) -> None:
        """Record a sum of products with zeros along these axes.

        Such a result is zero in any order of the other factor, so it tells nothing about how that factor can be
        permuted; `fix_unused` makes axes rigid that have no other use.
        """
        self.multiplied_by_zero.update(dict.fromkeys(map(resolve, axes)))

    def fix_unused(self, tensors: Iterable[AxisTuple]) -> None:
        """Allow only the identity on atoms that contributed to no result: parts cut off, and factors of zeros only."""
        in_use = {atom for axis in self.used for atom in atoms_of(resolve(axis))}
        zeroed = {atom for axis in self.multiplied_by_zero for atom in atoms_of(resolve(axis))} - in_use
        for axes in tensors:
            atoms = {atom for axis in axes for atom in atoms_of(resolve(axis)) if atom.cause is None}
            if atoms & zeroed:
                for axis in axes:
                    rigidify(axis, Cause("its tensor was multiplied by zeros only (is the example a single step?)"))
            for atom in atoms - in_use - zeroed:
                atom.cause = Cause("cut off before it had any effect")

    def keep_blocks(self, axis: Axis, count: int, cause: Cause) -> None:
        """Require that permutations of an axis keep its `count` equal blocks together."""
        self.blocks.append((axis, count, cause))

    def pick(self, axes: Sequence[Axis], dim: int, index: int, cause: Cause) -> list[Axis]:
        """The remaining axes of a tensor after index `index` of axis `dim` is taken.

        Atoms that always occur together with axis `dim` get an atom of their own at this index. Otherwise the index
        is split off from the axis, so that it keeps its place in every permutation; `split_axis` binds the atoms of the
        axis to the pieces.
        """
        others = [resolve(axis) for other, axis in enumerate(axes) if other != dim]
        picked = resolve(axes[dim])
        if len(picked) == 1 and isinstance(picked[0], Atom):
            outer = picked[0]
            inner = {a for axis in others for a in atoms_of(axis) if a.cause is None and a is not outer}
            nested = [atom for atom in in_creation_order(inner) if self._always_with(atom, outer)]
            if nested:
                rigidify(picked, cause)
                parts = {a: self.picks.setdefault((a, outer), {}).setdefault(index, fresh(a.size)) for a in nested}
                return [substitute(axis, parts) for axis in others]
        if not is_rigid(picked):
            if index:
                _, picked = split_axis(picked, index)
            if length(picked) > 1:
                split_axis(picked, 1)
        return others

    def stack(self, parts: Sequence[Axis], stack_axis: Axis, cause: Cause) -> Axis:
        """An axis that is `parts[i]` at index i of the axis `stack_axis`; the inverse of `pick`."""
        outer = single_atom(stack_axis)
        if outer is None or all(map(is_rigid, parts)):
            for part in parts[1:]:
                unify(parts[0], part, cause)
            return parts[0]
        axis = fresh(length(parts[0]))
        inner = single_atom(axis)
        assert inner is not None
        self.picks[inner, outer] = dict(enumerate(parts))
        return axis

    def _always_with(self, inner: Atom, outer: Atom) -> bool:
        """Whether every tensor observed so far that has `inner` also has `outer`."""
        if (inner, outer) in self.not_always_together:
            return False
        for axes in self.observed:
            present = {atom for axis in axes for atom in atoms_of(resolve(axis))}
            if inner in present and outer not in present:
                self.not_always_together.add((inner, outer))
                return False
        return True

    def solve_deferred(self, tensors: dict[str, AxisTuple], outputs: dict[str, AxisTuple]) -> None:
        """Solve the deferred constraints at the end of the trace, and update the axes of the tensors in place.

        tensors: the axes of the model's parameters and buffers, by name; a nesting that cannot be expressed in all of
        them is given up. outputs: the axes of other tensors, by name; they cannot prevent a nesting.
        """
        while any(split_at_blocks(axis, count) for axis, count, _ in self.blocks):
            pass
        for axis, count, cause in sorted(self.blocks, key=lambda each: each[1] / length(each[0])):
            self._keep_blocks(axis, count, cause)
        while self.picks:
            first_outer = next(iter(self.picks))[1]
            same_outer = [key for key in self.picks if resolve((key[1],)) == resolve((first_outer,))]
            picks = [(key[0], self.picks.pop(key)) for key in same_outer]
            self._split_picked(first_outer, picks, tensors, outputs)

    def _keep_blocks(self, axis: Axis, count: int, cause: Cause) -> None:
        """Require that permutations of an axis keep its `count` equal blocks together.

        A free part that is longer than a block becomes a product of two atoms: the block, and the position in it.
        Shorter parts stay as they are; their neurons cannot change to another block.
        """
        size = length(axis) // count
        parts_by_block: dict[int, list[Axis]] = {}
        offset = 0
        for part in summands_of(resolve(axis)):
            size_of_part = length(part)
            if is_rigid(part):
                pass
            elif size_of_part > size:
                outer, inner = fresh(size_of_part // size), fresh(size)
                unify(part, (*outer, *inner), cause)
                self.mix([outer], [inner])
            else:
                parts_by_block.setdefault(offset // size, []).append(part)
            offset += size_of_part
        self.distinct_parts.append(tuple(concatenated(parts) for parts in parts_by_block.values()))

    def _split_picked(
        self,
        outer_atom: Atom,
        picks_of_outer: list[tuple[Atom, dict[int, Axis]]],
        tensors: dict[str, AxisTuple],
        outputs: dict[str, AxisTuple],
    ) -> None:
        """Give inner atoms a separate atom at each index of `outer_atom`, if both conditions of nesting hold.

        If they do not hold for an inner atom, all its parts get the same permutation, that of the inner atom.
        picks_of_outer: inner atoms, each with the parts that were taken, by index of `outer_atom`.
        """
        outer = single_atom(resolve((outer_atom,)))
        while picks_of_outer:
            parts = _merge_picks(picks_of_outer) if outer is not None else {}
            tensors_by_atom = self.tensors_by_atom()
            sound = {
                inner
                for inner in parts
                if outer in self.outer_atoms(inner, tensors_by_atom)
                and all(always_inside(outer, inner, a) for a in tensors.values())
            }
            unsound = [each for each in picks_of_outer if single_atom(resolve((each[0],))) not in sound]
            if not unsound:
                if outer is not None:
                    self._expand_outer(outer, parts, tensors, outputs)
                return
            picks_of_outer = [each for each in picks_of_outer if each not in unsound]
            for atom, picked in unsound:
                for part in picked.values():
                    unify(part, (atom,), Cause("one permutation for several parts of a tensor"))

    def _expand_outer(self, outer: Atom, parts: dict[Atom, dict[int, Axis]], *described: dict[str, AxisTuple]) -> None:
        """Replace each inner atom by one atom for each index of `outer`, in all facts and in the described tensors.

        parts: by inner atom, its parts by index of `outer`. An index that was never taken gets a rigid atom.
        """
        # Below, the empty replacement {} keeps a fact as it is, beside its copies for the indices of `outer`.
        unused = Cause("never picked from its tensor")
        choices = [
            {inner: picked.get(index, fresh(inner.size, unused)) for inner, picked in parts.items()}
            for index in range(outer.size)
        ]
        self.observed = dict.fromkeys(each for axes in self.observed for each in slices_along(axes, outer, choices))
        self.used = dict.fromkeys(
            substitute(resolve(axis), replacements)
            for axis in self.used
            for replacements in ([{}, *choices] if any(mentions((axis,), atom) for atom in parts) else [{}])
        )
        self.mixing = dict.fromkeys(
            (substitute_all(kept, replacements), substitute_all(mixed, replacements))
            for kept, mixed in self.mixing
            for replacements in ([{}, *choices] if any(mentions((*kept, *mixed), atom) for atom in parts) else [{}])
        )
        for tensors in described:
            for name, axes in tensors.items():
                tensors[name] = tuple(expand_atom(resolve(axis), outer, choices) for axis in axes)

    def tensors_by_atom(self) -> dict[Atom, set[AxisTuple]]:
        """The distinct axes of observed tensors, by each free (not rigid) atom in them."""
        found: dict[Atom, set[AxisTuple]] = {}
        for axes in {tuple(resolve(axis) for axis in axes) for axes in self.observed}:
            for atom in {atom for axis in axes for atom in atoms_of(axis) if atom.cause is None}:
                found.setdefault(atom, set()).add(axes)
        return found

    def outer_atoms(self, inner: Atom, tensors_by_atom: dict[Atom, set[AxisTuple]]) -> frozenset[Atom]:
        """The possible outer atoms of `inner`: it may have a different permutation at each index of each of them."""
        shared: set[Atom] | None = None
        for axes in tensors_by_atom.get(inner, ()):
            for found in atoms_with_known_index(axes, inner):
                shared = found if shared is None else shared & found
                if not shared:
                    return frozenset()
        for kept, mixed in self.mixing:
            if shared and mentions(kept, inner):
                shared -= {atom for axis in mixed for atom in atoms_of(resolve(axis))}
        return frozenset(shared or ())

    def are_interchangeable(self, first: Atom, second: Atom) -> bool:
        """Whether two paddings occur together everywhere, so that their neurons can be exchanged."""
        for parts in self.distinct_parts:
            atoms_of_parts = [set(atoms_of(resolve(piece))) for piece in parts]
            if any((first in atoms) != (second in atoms) for atoms in atoms_of_parts):
                return False
        return all(occur_together(resolve(axis), first, second) for axes in self.observed for axis in axes)


def _merge_picks(picks_of_outer: list[tuple[Atom, dict[int, Axis]]]) -> dict[Atom, dict[int, Axis]]:
    """Return the parts by inner atom, after merging inner atoms that have become the same atom since they were taken.

    Left out are inner atoms that are rigid or were split, and those whose parts all have the same permutation.
    """
    parts: dict[Atom, dict[int, Axis]] = {}
    for atom, picked in picks_of_outer:
        inner = single_atom(resolve((atom,)))
        if inner is not None and inner.cause is None:
            known = parts.setdefault(inner, {})
            for index, part in picked.items():
                unify(known.setdefault(index, part), part, Cause("picked twice"))
    return {
        inner: picked
        for inner, picked in parts.items()
        if resolve((inner,)) == (inner,) and len({resolve(part) for part in picked.values()}) > 1
    }
