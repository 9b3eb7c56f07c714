"""A specification in words, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onebasin.symmetry.expressions import Fixed, leaves

if TYPE_CHECKING:
    from onebasin.symmetry.spec import PermutationSpec

SHOWN = 6


def summary(spec: PermutationSpec) -> str:
    """Groups with their sizes and places, then what is fixed and why, then notes."""
    values = sum(_values(entry.shape) for entry in spec.tensors.values() if entry.parameter and entry.same_as is None)
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
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return " ".join(names[:SHOWN]) + more


def _values(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
