"""The seed + mask file: a model that is a binary mask over random weights or a backbone, in about one bit per weight.

docs/model-files.md describes the layout byte by byte. All content is validated before it is used.
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
MAX_DESCRIPTION_BYTES = 1 << 16
BASE_WEIGHT_LIMIT = 1 << 20
WEIGHTS_PER_MASK_BYTE = 1 << 12
"""A file may list BASE_WEIGHT_LIMIT weights, and this many more per byte of its mask.

So a short file cannot make its reader build a large model.
"""

LAST_LAYER = "uniform 6"
"""The codec of a backbone's last layer, which is trained rather than masked."""

_HEADER = struct.Struct("<4sBQ")
_CHECKSUM = struct.Struct("<I")
_MIN_BYTES = _HEADER.size + 3 + _CHECKSUM.size

Shape = Annotated[tuple[Count, ...], Field(max_length=8)]


class Description(BaseModel):
    """The model in a file, stored as JSON.

    model: a built-in model's name, or the user's "package.module:factory". options, input (the shape of one example)
    and classes: the arguments with which it was built. supermask: how its weights were drawn and masked. backbone: the
    digest of the trained weights that are masked instead (see `learning.pretrained`), "" for random weights.
    backbone_mask: how the backbone is masked. layers: the names and shapes of the masked weights, in the model's order.
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
        """Whether the model is one of onebasin's own, rather than the user's code."""
        return ":" not in self.model

    @property
    def weights(self) -> int:
        """The number of masked weights."""
        return sum(map(math.prod, self.layers.values()))

    @property
    def parametrization(self) -> Supermask | BackboneMask:
        """The parametrization with which the model was trained."""
        return self.backbone_mask if self.backbone else self.supermask

    @property
    def flags(self) -> dict[str, Shape]:
        """The shape of each layer's mask: one flag per weight, or one per neuron."""
        if self.parametrization.over == "weights":
            return self.layers
        last = None if self.backbone else list(self.layers)[-1]
        return {name: shape if name == last else by_neurons(shape) for name, shape in self.layers.items()}


@dataclass(frozen=True)
class SeedMask:
    """The content of a seed + mask file.

    seed: of the random weights. masks: by layer, the flags; True for a weight or a neuron that is kept. buffers: the
    model's buffers, encoded with the `exact` codec (docs/wire-format.md); with a backbone, the last layer follows,
    encoded with `LAST_LAYER`.
    """

    seed: int
    description: Description
    masks: dict[str, Flags]
    buffers: bytes

    def to_bytes(self) -> bytes:
        """Return the file's bytes. Raises ValueError when the description is too long, or does not match the masks."""
        description = self.description.model_dump_json(exclude_defaults=True).encode()
        if len(description) > MAX_DESCRIPTION_BYTES:
            raise ValueError(f"the model's description has {len(description):,} bytes; {MAX_DESCRIPTION_BYTES:,} fit")
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
        """Return the content of a file. Raises WireError for an invalid file; `_check_sizes` limits the memory used."""
        if data[: len(MAGIC)] != MAGIC:
            raise WireError(f"not a seed + mask file: it begins with {data[: len(MAGIC)]!r}, not with {MAGIC!r}")
        if len(data) < _MIN_BYTES:
            raise WireError(f"it has {len(data)} bytes; the shortest file has {_MIN_BYTES}")
        _, version, seed = _HEADER.unpack_from(data)
        if version != VERSION:
            raise WireError(f"it has format version {version}; this onebasin reads version {VERSION}")
        end = len(data) - _CHECKSUM.size
        if zlib.crc32(memoryview(data)[:end]) != _CHECKSUM.unpack_from(data, end)[0]:
            raise WireError("its checksum does not fit its bytes: it was damaged or cut short")
        parts, position = [], _HEADER.size
        for name in ("description", "mask", "buffers"):
            size, position = read_number(memoryview(data)[:end], position)
            if position + size > end:
                raise WireError(f"its {name} of {size:,} bytes goes beyond its end")
            parts.append(data[position : position + size])
            position += size
        if position != end:
            raise WireError(f"it has {end - position:,} bytes after its last part")
        description = _read_description(parts[0])
        _check_sizes(description, len(parts[1]))
        return cls(seed, description, _read_masks(parts[1], description.flags), parts[2])


def _read_description(data: bytes) -> Description:
    if len(data) > MAX_DESCRIPTION_BYTES:
        raise WireError(f"its description has {len(data):,} bytes; at most {MAX_DESCRIPTION_BYTES:,} can be")
    try:
        return Description.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        raise WireError(f"its description is wrong: {key}: {first['msg']}") from None


def _check_sizes(description: Description, mask_bytes: int) -> None:
    """Raise WireError, before memory is allocated, for a file that lists far more weights than its size justifies.

    Random weights count, since the reader has to draw them. A backbone's weights do not, since the reader already has
    them; there, only the flags count.
    """
    limit = BASE_WEIGHT_LIMIT + WEIGHTS_PER_MASK_BYTE * mask_bytes
    unit, listed = "weights", description.weights
    if description.backbone:
        unit, listed = description.backbone_mask.over, sum(map(math.prod, description.flags.values()))
    if listed > limit:
        raise WireError(f"it lists {listed:,} {unit}; a mask of {mask_bytes:,} bytes can be of {limit:,} at most")


def _write_masks(masks: dict[str, Flags]) -> bytes:
    writer = SymbolWriter()
    for mask in masks.values():
        writer.flags(mask.reshape(-1))
    return writer.finish()


def _read_masks(data: bytes, shapes: dict[str, Shape]) -> dict[str, Flags]:
    reader = SymbolReader(data)
    masks = {name: reader.flags(math.prod(shape)).reshape(shape) for name, shape in shapes.items()}
    # Each mask has exactly one valid encoding, so any other bytes are damaged.
    if _write_masks(masks) != data:
        raise WireError("its mask is damaged: these bytes are not how any mask is written")
    return masks
