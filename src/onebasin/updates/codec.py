"""Codecs: how the values of a layout are written as bytes, and what the receiver then holds."""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from onebasin.updates.block import Classes
from onebasin.updates.scene import Scene
from onebasin.wire.error import WireError
from onebasin.wire.layout import Layout, Tensors

_FINGERPRINT_BYTES = 4


class NotFinite(ValueError):
    """A tensor with NaN or infinite values, which no codec sends."""


class Coding(ABC):
    """Says the tensors of one layout in bytes. ``receive(send(x)[0])`` is ``send(x)[1]``, bit for bit.

    A body begins with 4 bytes of fingerprint.
    """

    name: str

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._fingerprint = layout.fingerprint(self.name)

    @abstractmethod
    def send(self, tensors: Tensors, scene: Scene, classes: Classes | None = None) -> tuple[bytes, Tensors]:
        """Return the body, and the tensors that the receiver will have. What is to be kept is in ``scene.kept``.

        classes: what both sides know of each value beforehand, as a number from 0 to 255. `NotFinite` before anything
        is sent when a value is NaN or infinite, or becomes so.
        """

    def body(self, tensors: Tensors, scene: Scene, classes: Classes | None = None) -> bytes:
        """As `send`, for those who need not know what the receiver will have."""
        return self.send(tensors, scene, classes)[0]

    @abstractmethod
    def receive(self, body: bytes, scene: Scene, classes: Classes | None = None) -> Tensors:
        """Return the tensors in `body`; `WireError` when it is not a body of this coding and layout."""

    def places(self, scene: Scene) -> Tensors | None:
        """Return which values are sent in a round, as booleans; None where that is not known beforehand."""
        return None

    @property
    @abstractmethod
    def most_bytes(self) -> int:
        """More bytes than any body takes."""

    def _coded(self, body: bytes) -> memoryview:
        """Return what follows the fingerprint; `WireError` when that is another."""
        if body[:_FINGERPRINT_BYTES] != self._fingerprint:
            raise WireError(f"the body is not {self.name} for this model's layout of {len(self.layout)} tensors")
        return memoryview(body)[_FINGERPRINT_BYTES:]

    def _received(self, values: Tensor) -> Tensors:
        """Return the decoded values as tensors; `WireError` when any is NaN or infinite."""
        tensors = self.layout.split(values)
        try:
            require_finite(values, tensors)
        except NotFinite as error:
            raise WireError(str(error)) from None
        return tensors


class Codec(Coding):
    """A coding whose bodies all have one length, and depend on nothing but the tensors.

    A body is 4 bytes of fingerprint, then the coded values in layout order.
    """

    def encode(self, tensors: Tensors) -> bytes:
        """Return the body. `NotFinite` before anything is sent when a value is NaN or infinite (or becomes so)."""
        self.layout.check(tensors)
        return self._fingerprint + self._write(tensors)

    def decode(self, body: bytes) -> Tensors:
        """Return the tensors in `body`; `WireError` when it is not a body of this codec and layout."""
        coded = self._coded(body)
        size = self.coded_bytes
        if len(body) != _FINGERPRINT_BYTES + size:
            raise WireError(f"the body has {len(body)} bytes, not {_FINGERPRINT_BYTES + size}")
        return self._read(coded)

    def send(self, tensors: Tensors, scene: Scene, classes: Classes | None = None) -> tuple[bytes, Tensors]:
        body = self.encode(tensors)
        return body, self.decode(body)

    def body(self, tensors: Tensors, scene: Scene, classes: Classes | None = None) -> bytes:
        return self.encode(tensors)

    def receive(self, body: bytes, scene: Scene, classes: Classes | None = None) -> Tensors:
        return self.decode(body)

    @property
    def most_bytes(self) -> int:
        return _FINGERPRINT_BYTES + self.coded_bytes

    @property
    @abstractmethod
    def coded_bytes(self) -> int:
        """Bytes of the coded values."""

    @abstractmethod
    def _write(self, tensors: Tensors) -> bytes: ...

    @abstractmethod
    def _read(self, data: memoryview) -> Tensors: ...


def flatten(tensors: Tensors) -> Tensor:
    """Return all values as one new vector, in order."""
    if not tensors:
        return torch.zeros(0)
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors.values()])


def require_finite(values: Tensor, tensors: Tensors) -> None:
    """Raise `NotFinite` if `values`, those of `tensors` in one vector, has NaN or infinity; name the tensor."""
    # A finite sum has finite terms, and costs a fifth of looking at each; a sum that overflowed may still have them.
    if bool(torch.isfinite(values.sum())):
        return
    for (name, tensor), part in zip(
        tensors.items(), torch.split(values, [t.numel() for t in tensors.values()]), strict=True
    ):
        count = int((~torch.isfinite(part)).sum())
        if count:
            raise NotFinite(f"{name} has {count} values that are NaN or infinite, of {tensor.numel()}")


def to_array(data: memoryview, dtype: str) -> np.ndarray:
    """Return a writable copy of `data` as little-endian numbers."""
    return np.frombuffer(data, dtype=np.dtype(dtype).newbyteorder("<")).astype(np.dtype(dtype))
