"""Dense codecs: every value is sent, at 32, 16 or 8 bits."""

import numpy as np
import torch

from onebasin.updates.codec import Codec, NotFinite, flatten, require_finite, to_array
from onebasin.wire.layout import Tensors
from onebasin.wire.message import WireError

INT8_LEVELS = 127


class Fp32(Codec):
    """4 bytes a value, exact for float32."""

    name = "fp32"

    @property
    def coded_bytes(self) -> int:
        return 4 * self.layout.numel

    def _write(self, tensors: Tensors) -> bytes:
        require_finite(tensors)
        return flatten(tensors).numpy().astype("<f4", copy=False).tobytes()

    def _read(self, data: memoryview) -> Tensors:
        return _finite(self._split(torch.from_numpy(to_array(data, "f4"))))


class Fp16(Codec):
    """2 bytes a value: IEEE half precision, rounded to nearest even; magnitudes above 65,504 are refused."""

    name = "fp16"

    @property
    def coded_bytes(self) -> int:
        return 2 * self.layout.numel

    def _write(self, tensors: Tensors) -> bytes:
        halves = {name: tensor.half() for name, tensor in tensors.items()}
        require_finite(halves)
        return flatten(halves).numpy().astype("<f2", copy=False).tobytes()

    def _read(self, data: memoryview) -> Tensors:
        return _finite(self._split(torch.from_numpy(to_array(data, "f2")).float()))


class Int8(Codec):
    """1 byte a value and 4 bytes a tensor: value = scale * q, q in -127..127, scale = max|tensor| / 127.

    Rounded to nearest even. A scale is a float32; all scales come before all q, in layout order.
    """

    name = "int8"

    @property
    def coded_bytes(self) -> int:
        return 4 * len(self.layout) + self.layout.numel

    def _write(self, tensors: Tensors) -> bytes:
        require_finite(tensors)
        scales = torch.tensor([_scale(tensor) for tensor in tensors.values()], dtype=torch.float32)
        quantised = {
            name: torch.round(tensor / scale).clamp_(-INT8_LEVELS, INT8_LEVELS).to(torch.int8)
            for (name, tensor), scale in zip(tensors.items(), scales, strict=True)
        }
        return scales.numpy().astype("<f4", copy=False).tobytes() + flatten(quantised).numpy().tobytes()

    def _read(self, data: memoryview) -> Tensors:
        split_at = 4 * len(self.layout)
        scales = to_array(data[:split_at], "f4")
        if not np.isfinite(scales).all() or (scales < 0).any():
            raise WireError("an int8 scale is negative, NaN or infinite")
        values = torch.from_numpy(to_array(data[split_at:], "i1"))
        tensors = self._split(values)
        return _finite({n: t.float() * float(s) for (n, t), s in zip(tensors.items(), scales, strict=True)})


class Exact(Codec):
    """Every tensor in its own type: for buffers such as BatchNorm's statistics and counters."""

    name = "exact"

    @property
    def coded_bytes(self) -> int:
        return sum(entry.numel * entry.dtype.itemsize for entry in self.layout.entries)

    def _write(self, tensors: Tensors) -> bytes:
        require_finite(tensors)
        return b"".join(
            t.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() for t in tensors.values()
        )

    def _read(self, data: memoryview) -> Tensors:
        tensors: Tensors = {}
        at = 0
        for entry in self.layout.entries:
            size = entry.numel * entry.dtype.itemsize
            raw = torch.from_numpy(to_array(data[at : at + size], "u1"))
            tensors[entry.name] = raw.view(entry.dtype).view(entry.shape)
            at += size
        return _finite(tensors)


def _scale(tensor: torch.Tensor) -> float:
    """The scale of a tensor; 1 for one without values or with zeros only, so that nothing is divided by 0."""
    largest = tensor.abs().max() if tensor.numel() else torch.zeros(())
    return float(largest / INT8_LEVELS) or 1.0


def _finite(tensors: Tensors) -> Tensors:
    try:
        require_finite(tensors)
    except NotFinite as error:
        raise WireError(str(error)) from None
    return tensors
