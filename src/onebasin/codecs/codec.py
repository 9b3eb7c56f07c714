"""Codecs: how the values of a layout are written as bytes, and what the receiver then holds."""

import struct
import zlib
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.value_block import ChangeHistory
from onebasin.core.layout import Layout, Tensors
from onebasin.wire.error import Diverged, WireError

_FINGERPRINT_BYTES = 2
_HEAD_BYTES = 4


class NotFinite(ValueError):
    """A tensor with NaN or infinite values, which no codec sends."""


class Codec(ABC):
    """Says the tensors of one layout in bytes. ``receive(send(x)[0])`` is ``send(x)[1]``, bit for bit.

    A body begins with 4 bytes of head: which coding and layout it is of, and which values the receiver is to hold.
    """

    name: str

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._fingerprint = layout.fingerprint(self.name)

    @abstractmethod
    def send(
        self, tensors: Tensors, context: CodingContext, history: ChangeHistory | None = None
    ) -> tuple[bytes, Tensors]:
        """Return the body, and the tensors that the receiver will decode. Residuals go to ``context.next_residuals``.

        history: a number from 0 to 255 for each value [n], known to both sides, by which indices may be coded.
        `NotFinite` before anything is sent when a value is NaN or infinite, or becomes so.
        """

    def body(self, tensors: Tensors, context: CodingContext, history: ChangeHistory | None = None) -> bytes:
        """As `send`, for those who need not know what the receiver will have."""
        return self.send(tensors, context, history)[0]

    @abstractmethod
    def receive(self, body: bytes, context: CodingContext, history: ChangeHistory | None = None) -> Tensors:
        """Return the tensors in `body`; `WireError` when it is not a body of this coding and layout.

        `Diverged` when they are not those that the sender held to be received.
        """

    def at(self, round: int) -> "Codec":
        """Return the coding of a round's messages."""
        return self

    def sent_mask(self, context: CodingContext) -> Tensors | None:
        """Return which values are sent in a round, as booleans; None where that is not known beforehand."""
        return None

    @property
    @abstractmethod
    def most_bytes(self) -> int:
        """More bytes than any body takes."""

    def _head(self, received: Tensors, context: CodingContext) -> bytes:
        """Return what a body begins with whose receiver will decode these tensors."""
        return self._fingerprint + _check(received, context.base_model)

    def _coded(self, body: bytes) -> memoryview:
        """Return what follows the head; `WireError` when that is of another coding or layout."""
        if body[:_FINGERPRINT_BYTES] != self._fingerprint or len(body) < _HEAD_BYTES:
            raise WireError(f"the body is not {self.name} for this model's layout of {len(self.layout)} tensors")
        return memoryview(body)[_HEAD_BYTES:]

    def _as_sent(self, body: bytes, decoded: Tensors, context: CodingContext) -> Tensors:
        """Return the decoded tensors; `Diverged` where the body's head was written for others."""
        if body[_FINGERPRINT_BYTES:_HEAD_BYTES] != _check(decoded, context.base_model):
            raise Diverged(
                "the body gives other values here than where it was written: what was known beforehand is not the "
                "same, or another version or machine computes differently"
            )
        return decoded

    def _received(self, values: Tensor) -> Tensors:
        """Return the decoded values as tensors; `WireError` when any is NaN or infinite."""
        tensors = self.layout.split(values)
        try:
            require_finite(values, tensors)
        except NotFinite as error:
            raise WireError(str(error)) from None
        return tensors


class FixedLengthCodec(Codec):
    """A coding whose bodies all have one length, and depend on nothing but the tensors.

    A body is 4 bytes of head, then the coded values in layout order.
    """

    def encode(self, tensors: Tensors) -> bytes:
        """Return the body. `NotFinite` before anything is sent when a value is NaN or infinite (or becomes so)."""
        return self.body(tensors, CodingContext())

    def decode(self, body: bytes) -> Tensors:
        """Return the tensors in `body`; `WireError` when it is not a body of this codec and layout."""
        return self.receive(body, CodingContext())

    def send(
        self, tensors: Tensors, context: CodingContext, history: ChangeHistory | None = None
    ) -> tuple[bytes, Tensors]:
        self.layout.check(tensors)
        coded = self._write(tensors)
        try:
            received = self._read(memoryview(coded))
        except WireError as error:  # what is finite may be coded as what is not
            raise NotFinite(str(error)) from None
        return self._head(received, context) + coded, received

    def receive(self, body: bytes, context: CodingContext, history: ChangeHistory | None = None) -> Tensors:
        coded = self._coded(body)
        size = self.coded_bytes
        if len(coded) != size:
            raise WireError(f"the body has {len(body)} bytes, not {_HEAD_BYTES + size}")
        return self._as_sent(body, self._read(coded), context)

    @property
    def most_bytes(self) -> int:
        return _HEAD_BYTES + self.coded_bytes

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


def _check(tensors: Tensors, held: Tensor | None) -> bytes:
    """Return 2 bytes that follow from all values: half a CRC-32, where 0 stands for -0 as well.

    held: what they are added to first.
    """
    checksum = 0
    for tensor in tensors.values() if held is None else [flatten(tensors) + held]:
        signed = tensor.is_floating_point() and tensor.itemsize > 1  # those of one byte cannot be added to
        values = tensor.detach() + 0 if signed else tensor.detach()
        checksum = zlib.crc32(values.contiguous().view(-1).view(torch.uint8).numpy().data, checksum)
    return struct.pack("<H", checksum & 0xFFFF)


def to_array(data: memoryview, dtype: str) -> np.ndarray:
    """Return a writable copy of `data` as little-endian numbers."""
    return np.frombuffer(data, dtype=np.dtype(dtype).newbyteorder("<")).astype(np.dtype(dtype))
