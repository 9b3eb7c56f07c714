"""Permutation specifications as text for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from onebasin.symmetry.expressions import Fixed, leaves
from onebasin.symmetry.groups import Group, Occurrence, TensorAxes

MAX_NAMES = 6
"""Names that are listed in full; the others are counted."""


class Specification(Protocol):
    """The part of a `PermutationSpec` that the summary reads."""

    @property
    def groups(self) -> Mapping[str, Group]: ...
    @property
    def tensors(self) -> Mapping[str, TensorAxes]: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def coverage(self) -> float: ...
    def occurrences(self, group: str) -> Sequence[Occurrence]: ...


def summary(spec: Specification) -> str:
    """List each group with its size and its axes, then each reason with the axes that it fixes, then the notes."""
    values = sum(math.prod(entry.shape) for entry in spec.tensors.values() if entry.parameter and entry.same_as is None)
    lines = [f"{len(spec.groups)} groups permute {spec.coverage:.1%} of {values:,} parameters"]
    width = max((len(name) for name in spec.groups), default=0)
    for name, group in spec.groups.items():
        where = list(dict.fromkeys(f"{each.tensor}[{each.axis}]" for each in spec.occurrences(name)))
        size = str(group.size) + (f" for each of {' x '.join(group.within)}" if group.within else "")
        lines.append(f"  {name:<{width}}  {size}: {_shortened(where)}")
    fixed: dict[str, list[str]] = {}
    for name, entry in spec.tensors.items():
        for axis, expression in enumerate(entry.axes):
            for leaf in leaves(expression):
                if isinstance(leaf, Fixed) and leaf.size > 1 and entry.same_as is None:
                    fixed.setdefault(leaf.why, []).append(f"{name}[{axis}]")
    if fixed:
        lines.append("fixed:")
        lines.extend(f"  {why}: {_shortened(list(dict.fromkeys(where)))}" for why, where in fixed.items())
    lines.extend(f"note: {note}" for note in spec.notes)
    return "\n".join(lines)


def _shortened(names: list[str]) -> str:
    """The first names, and the number of the others."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return " ".join(names[:MAX_NAMES]) + more
