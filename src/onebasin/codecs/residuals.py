"""The residuals of a chain, as slots of a server's or client's state: one slot per stage, whose name has a prefix."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from onebasin.codecs.codec import flatten
from onebasin.core.layout import Layout, Tensors


def read_residuals(slots: Mapping[str, Tensors], prefix: str) -> dict[str, Tensor]:
    """Return the vectors [n] that stages keep, by stage: those of all slots whose name starts with `prefix`."""
    return {slot.removeprefix(prefix): flatten(tensors) for slot, tensors in slots.items() if slot.startswith(prefix)}


def with_residuals(
    slots: Mapping[str, Tensors], prefix: str, residuals: Mapping[str, Tensor], layout: Layout
) -> dict[str, Tensors]:
    """Return the slots with the vectors [n] of `residuals` in the place of all earlier ones under `prefix`."""
    others = {slot: tensors for slot, tensors in slots.items() if not slot.startswith(prefix)}
    return others | {f"{prefix}{stage}": layout.split(values) for stage, values in residuals.items()}
