"""Plain codecs: every value is sent, in 32, 16 or 8 bits, or in its own type."""

import numpy as np
import torch

from onebasin.codecs.codec import FixedLengthCodec, NotFinite, flatten, require_finite, to_array
from onebasin.core.layout import Tensors
from onebasin.wire.error import WireError

INT8_LEVELS = 127


class Fp32(FixedLengthCodec):
    """Sends each value in 4 bytes, exactly (float32)."""

    name = "fp32"

    @property
    def coded_bytes(self) -> int:
        return 4 * self.layout.numel

    def _write(self, tensors: Tensors) -> bytes:
        values = flatten(tensors)
        require_finite(values, tensors)
        return values.numpy().astype("<f4", copy=False).tobytes()

    def _read(self, data: memoryview) -> Tensors:
        return self._finite_tensors(torch.from_numpy(to_array(data, "f4")))


class Fp16(FixedLengthCodec):
    """Sends each value in 2 bytes: IEEE half precision, rounded to nearest even; larger than 65,504 is an error."""

    name = "fp16"

    @property
    def coded_bytes(self) -> int:
        return 2 * self.layout.numel

    def _write(self, tensors: Tensors) -> bytes:
        halves = flatten(tensors).half()
        require_finite(halves, tensors)
        return halves.numpy().astype("<f2", copy=False).tobytes()

    def _read(self, data: memoryview) -> Tensors:
        return self._finite_tensors(torch.from_numpy(to_array(data, "f2")).float())


class Int8(FixedLengthCodec):
    """Sends each value in 1 byte and a scale of 4 bytes per tensor: value = scale * q, scale = max|tensor| / 127.

    q is rounded to nearest even, from -127 to 127. All scales (float32) precede all q, both in the order of the layout.
    """

    name = "int8"

    @property
    def coded_bytes(self) -> int:
        return 4 * len(self.layout) + self.layout.numel

    def _write(self, tensors: Tensors) -> bytes:
        values = flatten(tensors)
        require_finite(values, tensors)
        scales = torch.tensor([_scale(tensor) for tensor in tensors.values()], dtype=torch.float32)
        quantised = torch.round(values / self._per_value(scales)).clamp_(-INT8_LEVELS, INT8_LEVELS).to(torch.int8)
        return scales.numpy().astype("<f4", copy=False).tobytes() + quantised.numpy().tobytes()

    def _read(self, data: memoryview) -> Tensors:
        scales_end = 4 * len(self.layout)
        scales = to_array(data[:scales_end], "f4")
        if not np.isfinite(scales).all() or (scales < 0).any():
            raise WireError("an int8 scale is negative, NaN or infinite")
        quantised = torch.from_numpy(to_array(data[scales_end:], "i1"))
        return self._finite_tensors(quantised.float() * self._per_value(torch.from_numpy(scales)))

    def _per_value(self, scales: torch.Tensor) -> torch.Tensor:
        """Return scales [tensors] as a vector [n], in which each value has the scale of its tensor."""
        return scales.repeat_interleave(torch.tensor([entry.numel for entry in self.layout.entries], dtype=torch.int64))


class Exact(FixedLengthCodec):
    """Sends each tensor in its own type, exactly: for buffers such as BatchNorm's statistics, counters and masks.

    Infinite values are allowed, NaN is not.
    """

    name = "exact"

    @property
    def coded_bytes(self) -> int:
        return sum(entry.numel * entry.dtype.itemsize for entry in self.layout.entries)

    def _write(self, tensors: Tensors) -> bytes:
        _require_no_nan(tensors)
        flat = (tensor.detach().contiguous().reshape(-1) for tensor in tensors.values() if tensor.numel())
        return b"".join(values.view(torch.uint8).numpy().tobytes() for values in flat)

    def _read(self, data: memoryview) -> Tensors:
        tensors: Tensors = {}
        offset = 0
        for entry in self.layout.entries:
            size = entry.numel * entry.dtype.itemsize
            raw = torch.from_numpy(to_array(data[offset : offset + size], "u1"))
            if entry.dtype == torch.bool and bool((raw > 1).any()):
                raise WireError(f"{entry.name} has flags that are neither 0 nor 1")
            values = raw.view(entry.dtype) if size else torch.empty(0, dtype=entry.dtype)
            tensors[entry.name] = values.view(entry.shape)
            offset += size
        try:
            _require_no_nan(tensors)
        except NotFinite as error:
            raise WireError(str(error)) from None
        return tensors


def _require_no_nan(tensors: Tensors) -> None:
    """Raise `NotFinite` for NaN. Infinite values are allowed, because attention masks consist of them."""
    for name, tensor in tensors.items():
        if bool(torch.isnan(tensor).any()):
            raise NotFinite(f"{name} has values that are NaN")


def _scale(tensor: torch.Tensor) -> float:
    """Return the scale of a tensor; 1 if it is empty or all zeros, so that values can be divided by it."""
    largest = tensor.abs().max() if tensor.numel() else torch.zeros(())
    return float(largest / INT8_LEVELS) or 1.0
