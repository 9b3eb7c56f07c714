"""Nested permutations: which atoms may have one permutation for each index of which other atoms.

Inside an attention head, neurons can be permuted differently in each head; inside a normalisation group, differently in
each group. An atom may have a permutation for each index of another atom (its *outer* atom) under two conditions: every
tensor with the inner atom also has the outer one, at an unambiguous index, and no operation mixes indices of the outer
atom while it keeps those of the inner one. `Couplings` collects these facts during the trace and draws the conclusions
at its end.

Three other constraints wait for the end of the trace, because they depend on how axes are split later:
blocks that a group normalisation keeps together; axes of which single indices were taken (query, key and value in one
tensor, at indices 0, 1 and 2), which become sums of the parts taken; and zero paddings on both sides of an axis, which
form one set of interchangeable neurons.
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
    picks: for an inner and an outer atom, the parts that were taken, by index of the outer atom. paddings: pairs of
    equal paddings. distinct_parts: parts of an axis whose neurons cannot be exchanged.
    used: axes that contributed to a result. multiplied_by_zero: axes that only entered products with zeros.
    not_always_together: pairs of an inner and an outer atom of which some tensor has the inner one alone.
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
        """Record a sum of products with zeros along these axes. It gives no information about the other factor."""
        self.multiplied_by_zero.update(dict.fromkeys(map(resolve, axes)))

    def fix_unused(self, tensors: Iterable[AxisTuple]) -> None:
        """Make atoms rigid that contributed to no result: parts that were cut off, and factors of zeros only."""
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
        """The remaining axes of a tensor after index `index` of axis `dim` is taken."""
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
        """An axis that equals `parts[i]` at index i of the axis `stack_axis`; the inverse of `pick`."""
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

        tensors: the model's state, all of which must be described. outputs: tensors that are described where possible.
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
        """Split every part that spans several blocks into blocks and positions in a block. Keep the others whole."""
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
        """Replace atoms of which indices of `outer_atom` were taken by one atom for each index, where that is sound.

        Where it is unsound, all parts that were taken get the permutation of the whole.
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
        """Replace inner atoms by one for each index of `outer`, in all recorded facts and in the described tensors."""
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
        """The distinct tensors that were observed, by each free atom that they contain."""
        found: dict[Atom, set[AxisTuple]] = {}
        for axes in {tuple(resolve(axis) for axis in axes) for axes in self.observed}:
            for atom in {atom for axis in axes for atom in atoms_of(axis) if atom.cause is None}:
                found.setdefault(atom, set()).add(axes)
        return found

    def outer_atoms(self, inner: Atom, tensors_by_atom: dict[Atom, set[AxisTuple]]) -> frozenset[Atom]:
        """The atoms for each index of which `inner` may have its own permutation."""
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
    """The parts that were taken, by the atom that each inner atom is bound to now, if not all parts are equal."""
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
