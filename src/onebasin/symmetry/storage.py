"""Permutation specifications as JSON text. The reader checks that all parts fit each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from onebasin.symmetry.errors import SymmetryError
from onebasin.symmetry.expressions import Neurons, from_data, leaves, to_data
from onebasin.symmetry.groups import Group, TensorAxes, axis_with_label, label_sizes, outermost_first
from onebasin.symmetry.indexing import group_indices, missing_labels

FORMAT, VERSION = "onebasin.permutations", 1
MAX_LENGTH = 2**31
"""Longest axis that is read. A larger size means that the file is damaged."""


class SpecFields(NamedTuple):
    """The fields of a `PermutationSpec`, in the order of its constructor."""

    groups: dict[str, Group]
    tensors: dict[str, TensorAxes]
    outputs: dict[str, TensorAxes]
    notes: tuple[str, ...]


def dump(
    groups: Mapping[str, Group],
    tensors: Mapping[str, TensorAxes],
    outputs: Mapping[str, TensorAxes],
    notes: Sequence[str],
) -> str:
    """Write the fields of a specification as a JSON object with format, version, groups, tensors, outputs, notes."""
    return json.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "groups": [{"name": g.name, "size": g.size, "within": list(g.within)} for g in groups.values()],
            "tensors": [_entry_to_data(name, entry) for name, entry in tensors.items()],
            "outputs": [_entry_to_data(name, entry) for name, entry in outputs.items()],
            "notes": list(notes),
        },
        separators=(",", ":"),
    )


def load(text: str) -> SpecFields:
    """Read text that `dump` wrote. Raises SymmetryError, which names the problem, for any other text."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SymmetryError(f"permutation specification: not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise SymmetryError(f"permutation specification: expected format {FORMAT!r}, version {VERSION}")
    fields = SpecFields(
        groups=dict(map(_group_from_data, _list(data, "groups"))),
        tensors=dict(map(_entry_from_data, _list(data, "tensors"))),
        outputs=dict(map(_entry_from_data, _list(data, "outputs"))),
        notes=tuple(map(str, _list(data, "notes"))),
    )
    _check(fields)
    return fields


def _check(fields: SpecFields) -> None:
    """Raise SymmetryError unless all names are known and all sizes fit each other."""
    known = label_sizes(fields.groups, fields.tensors)
    for name, group in fields.groups.items():
        for other in group.within:
            if other not in known:
                raise SymmetryError(f"group {name!r} lies within {other!r}, which is unknown")
    if len(outermost_first(fields.groups, fields.groups)) != len(fields.groups):
        raise SymmetryError("groups lie within each other in a circle")
    for entries in (fields.tensors, fields.outputs):
        for name, entry in entries.items():
            if entry.same_as is not None and entry.same_as not in entries:
                raise SymmetryError(f"{name}: the same as {entry.same_as!r}, which is unknown")
            for dim in range(len(entry.axes)):
                _check_axis(fields.groups, name, entry, dim)


def _check_axis(groups: Mapping[str, Group], name: str, entry: TensorAxes, dim: int) -> None:
    """Raise SymmetryError unless an axis has every neuron of each of its groups once, and all labels that they need."""
    axis = entry.axes[dim]
    if axis.size > MAX_LENGTH:
        raise SymmetryError(f"{name}[{dim}]: {axis.size} indices; expected at most {MAX_LENGTH}")
    neurons = [leaf for leaf in leaves(axis) if isinstance(leaf, Neurons)]
    for group in dict.fromkeys(leaf.group for leaf in neurons):
        if group not in groups:
            raise SymmetryError(f"{name}[{dim}]: group {group!r} is unknown")
        size = groups[group].size
        if any(leaf.group == group and leaf.start + leaf.size > size for leaf in neurons) or any(
            each.table.shape[-1] != size for each in group_indices(axis, group)
        ):
            raise SymmetryError(f"{name}[{dim}]: other neurons of {group!r} than its {size}, once each")
    for label in missing_labels(axis, {group.name: group.within for group in groups.values()}):
        axis_with_label(label, entry.axes, dim)


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    """The list under a key. Raises SymmetryError if there is none."""
    value = data.get(key)
    if not isinstance(value, list):
        raise SymmetryError(f"permutation specification: {key}: expected a list")
    return value


def _group_from_data(data: object) -> tuple[str, Group]:
    """Read one group. Raises SymmetryError for invalid data."""
    match data:
        case {"name": str(name), "size": int(size), "within": list(within)} if size > 1:
            return name, Group(name, size, tuple(str(other) for other in within))
    raise SymmetryError(f"permutation specification: group {data!r}; expected name, size and within")


def _entry_to_data(name: str, entry: TensorAxes) -> dict[str, Any]:
    """The axes of one tensor as JSON data."""
    data: dict[str, Any] = {"name": name, "axes": [to_data(axis) for axis in entry.axes], "parameter": entry.parameter}
    return data | ({"same_as": entry.same_as} if entry.same_as is not None else {})


def _entry_from_data(data: object) -> tuple[str, TensorAxes]:
    """Read the axes of one tensor. Raises SymmetryError for invalid data."""
    match data:
        case {"name": str(name), "axes": list(axes), "parameter": bool(parameter), **rest}:
            same_as = rest.get("same_as")
            if same_as is None or isinstance(same_as, str):
                return name, TensorAxes(tuple(from_data(axis, name) for axis in axes), parameter, same_as)
    raise SymmetryError(f"permutation specification: tensor {data!r}; expected name, axes and parameter")
