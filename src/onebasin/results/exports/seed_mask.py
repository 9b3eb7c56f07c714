"""The seed + mask file: a model trained as a mask, over random weights or a backbone, in about one bit a weight.

The layout, byte by byte, is in docs/model-files.md. What is read is checked before it is used.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from onebasin.core.settings import Count
from onebasin.learning.masks.layers import by_neurons
from onebasin.learning.parametrizations.backbone_mask import BackboneMask
from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.wire.entropy import Flags, SymbolReader, SymbolWriter
from onebasin.wire.error import WireError
from onebasin.wire.numbers import read_number, write_number

MAGIC = b"\x89OBM"
VERSION = 2
MOST_DESCRIPTION_BYTES = 1 << 16
FREE_WEIGHTS = 1 << 20
MOST_WEIGHTS_A_BYTE = 1 << 12
"""So many weights a byte of the mask are read, beyond the free ones: a short file cannot ask for a large model."""

LAST_LAYER = "uniform 6"
"""The coding of a backbone's last layer, which is trained rather than masked."""

_HEADER = struct.Struct("<4sBQ")
_CHECKSUM = struct.Struct("<I")
_LEAST_BYTES = _HEADER.size + 3 + _CHECKSUM.size

Shape = Annotated[tuple[Count, ...], Field(max_length=8)]


class Description(BaseModel):
    """Which model it is. layers: the masked weights' names and shapes, in the model's order.

    model: a built-in model's name, or the user's "package.module:factory"; options, input (the shape of one example)
    and classes are what it was built with. supermask: how its weights were drawn and masked. backbone: the digest of
    the trained weights that are masked instead (learning/pretrained.py); backbone_mask: how they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    options: dict[str, Any] = {}
    input: Shape
    classes: Count
    supermask: Supermask = Supermask()
    backbone: Annotated[str, Field(pattern="^([0-9a-f]{32})?$")] = ""
    backbone_mask: BackboneMask = BackboneMask()
    layers: Annotated[dict[str, Shape], Field(min_length=1)]

    @property
    def built_in(self) -> bool:
        """Whether onebasin has the model, rather than its user."""
        return ":" not in self.model

    @property
    def weights(self) -> int:
        """How many weights are masked."""
        return sum(map(math.prod, self.layers.values()))

    @property
    def parametrization(self) -> Supermask | BackboneMask:
        """What the model was trained as."""
        return self.backbone_mask if self.backbone else self.supermask

    @property
    def flags(self) -> dict[str, Shape]:
        """The shape of each layer's flags: that of its weights, or of its neurons."""
        if self.parametrization.over == "weights":
            return self.layers
        last = None if self.backbone else list(self.layers)[-1]
        return {name: shape if name == last else by_neurons(shape) for name, shape in self.layers.items()}


@dataclass(frozen=True)
class SeedMask:
    """masks: for each layer the flags, of what is kept. buffers: a body in the `exact` coding of docs/wire-format.md.

    With a backbone, the last layer follows, in the coding `LAST_LAYER`.
    """

    seed: int
    description: Description
    masks: dict[str, Flags]
    buffers: bytes

    def to_bytes(self) -> bytes:
        """Return the file's bytes. `ValueError` for a description that is too long, or masks that are not of it."""
        description = self.description.model_dump_json(exclude_defaults=True).encode()
        if len(description) > MOST_DESCRIPTION_BYTES:
            raise ValueError(f"the model's description has {len(description):,} bytes; {MOST_DESCRIPTION_BYTES:,} fit")
        shapes = {name: mask.shape for name, mask in self.masks.items()}
        if shapes != self.description.flags:
            raise ValueError(f"the masks are of {shapes}; the description is of {self.description.flags}")
        parts = [_HEADER.pack(MAGIC, VERSION, self.seed)]
        for part in (description, _write_masks(self.masks), self.buffers):
            parts += (write_number(len(part)), part)
        body = b"".join(parts)
        return body + _CHECKSUM.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> SeedMask:
        """Return what a file says; `WireError` names what is wrong with it. What is allocated: see `_check_sizes`."""
        if data[: len(MAGIC)] != MAGIC:
            raise WireError(f"not a seed + mask file: it begins with {data[: len(MAGIC)]!r}, not with {MAGIC!r}")
        if len(data) < _LEAST_BYTES:
            raise WireError(f"it has {len(data)} bytes; the shortest file has {_LEAST_BYTES}")
        _, version, seed = _HEADER.unpack_from(data)
        if version != VERSION:
            raise WireError(f"it has format version {version}; this onebasin reads version {VERSION}")
        end = len(data) - _CHECKSUM.size
        if zlib.crc32(memoryview(data)[:end]) != _CHECKSUM.unpack_from(data, end)[0]:
            raise WireError("its checksum does not fit its bytes: it was damaged or cut short")
        parts, at = [], _HEADER.size
        for name in ("description", "mask", "buffers"):
            size, at = read_number(memoryview(data)[:end], at)
            if at + size > end:
                raise WireError(f"its {name} of {size:,} bytes goes beyond its end")
            parts.append(data[at : at + size])
            at += size
        if at != end:
            raise WireError(f"it has {end - at:,} bytes after its last part")
        description = _read_description(parts[0])
        _check_sizes(description, len(parts[1]))
        return cls(seed, description, _read_masks(parts[1], description.flags), parts[2])


def _read_description(data: bytes) -> Description:
    if len(data) > MOST_DESCRIPTION_BYTES:
        raise WireError(f"its description has {len(data):,} bytes; at most {MOST_DESCRIPTION_BYTES:,} can be")
    try:
        return Description.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise WireError(f"its description is wrong: {place}: {first['msg']}") from None


def _check_sizes(described: Description, mask_bytes: int) -> None:
    """Refuse a mask that takes far more memory than bytes, before any is taken.

    Random weights count, for they are made of the seed; a backbone's do not, for its reader has them: its flags do.
    """
    most = FREE_WEIGHTS + MOST_WEIGHTS_A_BYTE * mask_bytes
    what, listed = "weights", described.weights
    if described.backbone:
        what, listed = described.backbone_mask.over, sum(map(math.prod, described.flags.values()))
    if listed > most:
        raise WireError(f"it lists {listed:,} {what}; a mask of {mask_bytes:,} bytes can be of {most:,} at most")


def _write_masks(masks: dict[str, Flags]) -> bytes:
    out = SymbolWriter()
    for mask in masks.values():
        out.flags(mask.reshape(-1))
    return out.finish()


def _read_masks(data: bytes, shapes: dict[str, Shape]) -> dict[str, Flags]:
    source = SymbolReader(data)
    masks = {name: source.flags(math.prod(shape)).reshape(shape) for name, shape in shapes.items()}
    if _write_masks(masks) != data:
        raise WireError("its mask is damaged: these bytes are not how any mask is written")
    return masks
