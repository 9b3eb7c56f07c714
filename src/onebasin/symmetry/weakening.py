"""Specifications with less freedom, for groups that did not pass the numeric check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from onebasin.symmetry.expressions import Concat, Expression, Fixed, Neurons, Product, leaves
from onebasin.symmetry.groups import Group, TensorAxes
from onebasin.symmetry.spec import PermutationSpec


def weaker(spec: PermutationSpec, name: str, why: str) -> PermutationSpec:
    """The specification with the next smaller freedom for a group, and a note that says so.

    A group within others gets one permutation for all of their indices; one that stands in several parts of an axis
    becomes a group for each part; any other is fixed.
    """
    group = spec.groups[name]
    if group.within:
        note = f"{name}: one permutation within all of {', '.join(group.within)}: {why}"
        return replace(spec, groups={**spec.groups, name: Group(name, group.size)}, notes=(*spec.notes, note))
    every = [axis for entry in spec.tensors.values() for axis in entry.axes]
    starts = sorted(
        {leaf.start for a in every for leaf in leaves(a) if isinstance(leaf, Neurons) and leaf.group == name}
    )
    if len(starts) > 1:
        return _divided(spec, group, starts, why)
    return fixed(spec, name, why)


def fixed(spec: PermutationSpec, name: str, why: str) -> PermutationSpec:
    """The specification with the neurons of a group in their order."""
    groups = {other: each for other, each in spec.groups.items() if other != name}
    needed = name if any(name in each.within for each in groups.values()) else None

    def leaf(old: Neurons) -> Expression:
        return Fixed(old.size, why, needed) if old.group == name else old

    return _changed(spec, groups, leaf, f"{name}: {why}")


def _divided(spec: PermutationSpec, group: Group, starts: list[int], why: str) -> PermutationSpec:
    ends = [*starts[1:], group.size]
    names = {start: f"{group.name}:{start}-{end}" for start, end in zip(starts, ends, strict=True)}
    groups: dict[str, Group] = {}
    for other, each in spec.groups.items():
        if other == group.name:
            sizes = zip(starts, ends, strict=True)
            groups.update((names[start], Group(names[start], end - start)) for start, end in sizes)
        else:
            groups[other] = each

    def leaf(old: Neurons) -> Expression:
        return Neurons(names[old.start], old.size) if old.group == group.name else old

    return _changed(spec, groups, leaf, f"{group.name}: a group for each part: {why}")


def _changed(
    spec: PermutationSpec, groups: dict[str, Group], leaf: Callable[[Neurons], Expression], note: str
) -> PermutationSpec:
    def change(axis: Expression) -> Expression:
        match axis:
            case Fixed():
                return axis
            case Neurons():
                return leaf(axis)
            case Product(factors):
                return Product(tuple(map(change, factors)))
            case Concat(parts):
                return Concat(tuple(map(change, parts)))

    def entries(old: Mapping[str, TensorAxes]) -> dict[str, TensorAxes]:
        return {name: replace(entry, axes=tuple(map(change, entry.axes))) for name, entry in old.items()}

    return PermutationSpec(groups, entries(spec.tensors), entries(spec.outputs), (*spec.notes, note))
