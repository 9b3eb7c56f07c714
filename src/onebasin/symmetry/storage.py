"""Specifications as JSON: declarative data, checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from onebasin.symmetry.errors import SymmetryError
from onebasin.symmetry.expressions import Neurons, from_data, leaves, to_data
from onebasin.symmetry.groups import Group, TensorAxes, axis_of
from onebasin.symmetry.indexing import needs, places
from onebasin.symmetry.spec import PermutationSpec

FORMAT, VERSION = "onebasin.permutations", 1
LONGEST = 2**31
"""No axis is longer; a larger size is a damaged file."""


def dump(spec: PermutationSpec) -> str:
    """A specification as text: an object with format, version, groups, tensors, outputs, notes."""
    return json.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "groups": [{"name": g.name, "size": g.size, "within": list(g.within)} for g in spec.groups.values()],
            "tensors": [_entry_to_data(name, entry) for name, entry in spec.tensors.items()],
            "outputs": [_entry_to_data(name, entry) for name, entry in spec.outputs.items()],
            "notes": list(spec.notes),
        },
        separators=(",", ":"),
    )


def load(text: str) -> PermutationSpec:
    """Read what `dump` wrote. Raises SymmetryError, which names what is wrong, for anything else."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SymmetryError(f"permutation specification: not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise SymmetryError(f"permutation specification: expected format {FORMAT!r}, version {VERSION}")
    spec = PermutationSpec(
        groups=dict(map(_group_from_data, _list(data, "groups"))),
        tensors=dict(map(_entry_from_data, _list(data, "tensors"))),
        outputs=dict(map(_entry_from_data, _list(data, "outputs"))),
        notes=tuple(map(str, _list(data, "notes"))),
    )
    _check(spec)
    return spec


def _check(spec: PermutationSpec) -> None:
    """Raise SymmetryError unless names, sizes and places fit each other."""
    for name, group in spec.groups.items():
        for other in group.within:
            if other not in spec.label_sizes:
                raise SymmetryError(f"group {name!r} lies within {other!r}, which is unknown")
    if len(spec.outermost_first(spec.groups)) != len(spec.groups):
        raise SymmetryError("groups lie within each other in a circle")
    for entries in (spec.tensors, spec.outputs):
        for name, entry in entries.items():
            if entry.same_as is not None and entry.same_as not in entries:
                raise SymmetryError(f"{name}: the same as {entry.same_as!r}, which is unknown")
            for place in range(len(entry.axes)):
                _check_axis(spec, name, entry, place)


def _check_axis(spec: PermutationSpec, name: str, entry: TensorAxes, place: int) -> None:
    axis = entry.axes[place]
    if axis.size > LONGEST:
        raise SymmetryError(f"{name}[{place}]: {axis.size} indices; expected at most {LONGEST}")
    found = [leaf for leaf in leaves(axis) if isinstance(leaf, Neurons)]
    for group in dict.fromkeys(leaf.group for leaf in found):
        if group not in spec.groups:
            raise SymmetryError(f"{name}[{place}]: group {group!r} is unknown")
        size = spec.groups[group].size
        if any(leaf.group == group and leaf.start + leaf.size > size for leaf in found) or any(
            each.table.shape[-1] != size for each in places(axis, group)
        ):
            raise SymmetryError(f"{name}[{place}]: other neurons of {group!r} than its {size}, once each")
    for label in needs(axis, {group.name: group.within for group in spec.groups.values()}):
        axis_of(label, entry.axes, place)


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list):
        raise SymmetryError(f"permutation specification: {key}: expected a list")
    return value


def _group_from_data(data: object) -> tuple[str, Group]:
    match data:
        case {"name": str(name), "size": int(size), "within": list(within)} if size > 1:
            return name, Group(name, size, tuple(str(other) for other in within))
    raise SymmetryError(f"permutation specification: group {data!r}; expected name, size and within")


def _entry_to_data(name: str, entry: TensorAxes) -> dict[str, Any]:
    data: dict[str, Any] = {"name": name, "axes": [to_data(axis) for axis in entry.axes], "parameter": entry.parameter}
    return data | ({"same_as": entry.same_as} if entry.same_as is not None else {})


def _entry_from_data(data: object) -> tuple[str, TensorAxes]:
    match data:
        case {"name": str(name), "axes": list(axes), "parameter": bool(parameter), **rest}:
            same_as = rest.get("same_as")
            if same_as is None or isinstance(same_as, str):
                return name, TensorAxes(tuple(from_data(axis, name) for axis in axes), parameter, same_as)
    raise SymmetryError(f"permutation specification: tensor {data!r}; expected name, axes and parameter")
