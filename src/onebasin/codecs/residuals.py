"""What a chain remembers from message to message, among the slots of its side's state."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from onebasin.codecs.codec import flatten
from onebasin.core.layout import Layout, Tensors


def read_residuals(slots: Mapping[str, Tensors], prefix: str) -> dict[str, Tensor]:
    """Return the vectors that stages kept, by stage; prefix: what the names of their slots begin with."""
    return {slot.removeprefix(prefix): flatten(kept) for slot, kept in slots.items() if slot.startswith(prefix)}


def with_residuals(
    slots: Mapping[str, Tensors], prefix: str, kept: Mapping[str, Tensor], layout: Layout
) -> dict[str, Tensors]:
    """Return the slots with what stages keep now in the place of all that any kept before."""
    others = {slot: tensors for slot, tensors in slots.items() if not slot.startswith(prefix)}
    return others | {f"{prefix}{stage}": layout.split(values) for stage, values in kept.items()}
