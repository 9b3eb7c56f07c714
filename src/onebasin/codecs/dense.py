"""Dense codecs: every value is sent, at 32, 16 or 8 bits."""

import numpy as np
import torch

from onebasin.codecs.codec import FixedLengthCodec, NotFinite, flatten, require_finite, to_array
from onebasin.core.layout import Tensors
from onebasin.wire.error import WireError

INT8_LEVELS = 127


class Fp32(FixedLengthCodec):
    """4 bytes a value, exact for float32."""

    name = "fp32"

    @property
    def coded_bytes(self) -> int:
        return 4 * self.layout.numel

    def _write(self, tensors: Tensors) -> bytes:
        values = flatten(tensors)
        require_finite(values, tensors)
        return values.numpy().astype("<f4", copy=False).tobytes()

    def _read(self, data: memoryview) -> Tensors:
        return self._received(torch.from_numpy(to_array(data, "f4")))


class Fp16(FixedLengthCodec):
    """2 bytes a value: IEEE half precision, rounded to nearest even; magnitudes above 65,504 are refused."""

    name = "fp16"

    @property
    def coded_bytes(self) -> int:
        return 2 * self.layout.numel

    def _write(self, tensors: Tensors) -> bytes:
        halves = flatten(tensors).half()
        require_finite(halves, tensors)
        return halves.numpy().astype("<f2", copy=False).tobytes()

    def _read(self, data: memoryview) -> Tensors:
        return self._received(torch.from_numpy(to_array(data, "f2")).float())


class Int8(FixedLengthCodec):
    """1 byte a value and 4 bytes a tensor: value = scale * q, q in -127..127, scale = max|tensor| / 127.

    Rounded to nearest even. A scale is a float32; all scales come before all q, in layout order.
    """

    name = "int8"

    @property
    def coded_bytes(self) -> int:
        return 4 * len(self.layout) + self.layout.numel

    def _write(self, tensors: Tensors) -> bytes:
        values = flatten(tensors)
        require_finite(values, tensors)
        scales = torch.tensor([_scale(tensor) for tensor in tensors.values()], dtype=torch.float32)
        quantised = torch.round(values / self._spread(scales)).clamp_(-INT8_LEVELS, INT8_LEVELS).to(torch.int8)
        return scales.numpy().astype("<f4", copy=False).tobytes() + quantised.numpy().tobytes()

    def _read(self, data: memoryview) -> Tensors:
        split_at = 4 * len(self.layout)
        scales = to_array(data[:split_at], "f4")
        if not np.isfinite(scales).all() or (scales < 0).any():
            raise WireError("an int8 scale is negative, NaN or infinite")
        quantised = torch.from_numpy(to_array(data[split_at:], "i1"))
        return self._received(quantised.float() * self._spread(torch.from_numpy(scales)))

    def _spread(self, scales: torch.Tensor) -> torch.Tensor:
        """Each tensor's scale, once a value."""
        return scales.repeat_interleave(torch.tensor([entry.numel for entry in self.layout.entries], dtype=torch.int64))


class Exact(FixedLengthCodec):
    """Every tensor in its own type, infinity included: for buffers such as BatchNorm's statistics, counters, masks."""

    name = "exact"

    @property
    def coded_bytes(self) -> int:
        return sum(entry.numel * entry.dtype.itemsize for entry in self.layout.entries)

    def _write(self, tensors: Tensors) -> bytes:
        _require_numbers(tensors)
        flat = (tensor.detach().contiguous().reshape(-1) for tensor in tensors.values() if tensor.numel())
        return b"".join(values.view(torch.uint8).numpy().tobytes() for values in flat)

    def _read(self, data: memoryview) -> Tensors:
        tensors: Tensors = {}
        at = 0
        for entry in self.layout.entries:
            size = entry.numel * entry.dtype.itemsize
            raw = torch.from_numpy(to_array(data[at : at + size], "u1"))
            if entry.dtype == torch.bool and bool((raw > 1).any()):
                raise WireError(f"{entry.name} has flags that are neither 0 nor 1")
            values = raw.view(entry.dtype) if size else torch.empty(0, dtype=entry.dtype)
            tensors[entry.name] = values.view(entry.shape)
            at += size
        try:
            _require_numbers(tensors)
        except NotFinite as error:
            raise WireError(str(error)) from None
        return tensors


def _require_numbers(tensors: Tensors) -> None:
    """Refuse NaN; infinity is what attention masks are made of."""
    for name, tensor in tensors.items():
        if bool(torch.isnan(tensor).any()):
            raise NotFinite(f"{name} has values that are NaN")


def _scale(tensor: torch.Tensor) -> float:
    """The scale of a tensor; 1 for one without values or with zeros only, so that nothing is divided by 0."""
    largest = tensor.abs().max() if tensor.numel() else torch.zeros(())
    return float(largest / INT8_LEVELS) or 1.0
