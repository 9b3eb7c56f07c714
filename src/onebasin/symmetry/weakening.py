"""Specifications with fewer permutations, for groups that fail the numeric check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from onebasin.symmetry.expressions import Concat, Expression, Fixed, Neurons, Product, leaves
from onebasin.symmetry.groups import Group, TensorAxes
from onebasin.symmetry.spec import PermutationSpec


def weaken(spec: PermutationSpec, name: str, why: str) -> PermutationSpec:
    """Restrict the permutations of a group by one step, and add a note about it.

    A nested group gets one permutation for all indices of its outer groups. A group that is divided into parts becomes
    a group for each part. Any other group is fixed.
    """
    group = spec.groups[name]
    if group.within:
        note = f"{name}: one permutation within all of {', '.join(group.within)}: {why}"
        return replace(spec, groups={**spec.groups, name: Group(name, group.size)}, notes=(*spec.notes, note))
    all_axes = [axis for entry in spec.tensors.values() for axis in entry.axes]
    starts = sorted(
        {leaf.start for a in all_axes for leaf in leaves(a) if isinstance(leaf, Neurons) and leaf.group == name}
    )
    if len(starts) > 1:
        return _split_group(spec, group, starts, why)
    return fix_group(spec, name, why)


def fix_group(spec: PermutationSpec, name: str, why: str) -> PermutationSpec:
    """Replace the neurons of a group by indices that keep their order."""
    groups = {other: each for other, each in spec.groups.items() if other != name}
    label = name if any(name in each.within for each in groups.values()) else None

    def leaf(old: Neurons) -> Expression:
        return Fixed(old.size, why, label) if old.group == name else old

    return _map_neurons(spec, groups, leaf, f"{name}: {why}")


def _split_group(spec: PermutationSpec, group: Group, starts: list[int], why: str) -> PermutationSpec:
    """Replace a group by a group for each of its parts."""
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

    return _map_neurons(spec, groups, leaf, f"{group.name}: a group for each part: {why}")


def _map_neurons(
    spec: PermutationSpec, groups: dict[str, Group], leaf: Callable[[Neurons], Expression], note: str
) -> PermutationSpec:
    """Apply a function to every `Neurons` of all tensors and outputs, set the groups, and add a note."""

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
