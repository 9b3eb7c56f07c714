"""State: everything that a server or a client keeps between rounds, as named tensors and JSON values."""

import json
from dataclasses import dataclass, field
from typing import Any

import safetensors
import safetensors.torch
import torch

from onebasin.core.layout import Tensors

_SEPARATOR = "/"


class StateError(ValueError):
    """Bytes that are not a saved state."""


@dataclass
class State:
    """`slots`: groups of tensors by role, e.g. "weights", "control"; `facts`: JSON values."""

    slots: dict[str, Tensors] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the state as a safetensors file. Its metadata has the facts, and the order of slots and tensors."""
        flat = {
            f"{slot}{_SEPARATOR}{name}": tensor.detach().clone(memory_format=torch.contiguous_format)
            for slot, tensors in self.slots.items()
            for name, tensor in tensors.items()
        }
        order = {slot: list(tensors) for slot, tensors in self.slots.items()}
        return safetensors.torch.save(flat, {"onebasin": json.dumps({"facts": self.facts, "slots": order})})

    @classmethod
    def from_bytes(cls, data: bytes) -> "State":
        """Return the state that `to_bytes` wrote. Errors: `StateError` if the data are damaged or something else."""
        try:
            header_size = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + header_size])
            metadata = json.loads(header["__metadata__"]["onebasin"])
            flat = safetensors.torch.load(data)
            slots = {
                slot: {name: flat[f"{slot}{_SEPARATOR}{name}"] for name in names}
                for slot, names in metadata["slots"].items()
            }
            return cls(slots, metadata["facts"])
        except (KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
            raise StateError(f"not a saved state: {error!r}") from None
