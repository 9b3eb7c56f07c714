"""The base classes of codecs, which encode the values of a layout as bytes and know what the receiver decodes."""

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
    """A tensor with NaN or infinite values, which no codec encodes (`Exact` encodes infinite ones)."""


class Codec(ABC):
    """Encodes tensors of one layout as a body of bytes. ``receive(send(x)[0])`` equals ``send(x)[1]``, bit for bit.

    A body starts with a head of 4 bytes: a fingerprint of the codec's name and the layout, and a check of the values
    that the receiver is to decode (docs/wire-format.md, Tensors). A subclass sets `name` before it calls `__init__`.
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

        history: for each value [n] a class from 0 to 255 that both sides know; masks may be coded class by class.
        Errors: `NotFinite` if a value is NaN or infinite, or would be decoded as such; `ValueError` if the tensors have
        another layout.
        """

    def body(self, tensors: Tensors, context: CodingContext, history: ChangeHistory | None = None) -> bytes:
        """Return the body alone. Arguments and errors: as for `send`."""
        return self.send(tensors, context, history)[0]

    @abstractmethod
    def receive(self, body: bytes, context: CodingContext, history: ChangeHistory | None = None) -> Tensors:
        """Return the decoded tensors. `history` and `context` must equal the sender's; residuals are not used.

        Errors: `WireError` if `body` is not a body of this codec and layout; `Diverged` if it is, but decodes to other
        values here than at the sender.
        """

    def at(self, round: int) -> "Codec":
        """Return the codec of a round's messages, if it depends on the round."""
        return self

    def sent_mask(self, context: CodingContext) -> Tensors | None:
        """Return which values a message contains, as booleans; None if that is not known before the values are."""
        return None

    @property
    @abstractmethod
    def most_bytes(self) -> int:
        """Return an upper bound of the length of a body, in bytes."""

    def _head(self, received: Tensors, context: CodingContext) -> bytes:
        """Return the head of a body that the receiver decodes to `received`."""
        return self._fingerprint + _value_check(received, context.base_model)

    def _without_head(self, body: bytes) -> memoryview:
        """Return the body after its head. Errors: `WireError` if the head is of another codec or layout."""
        if body[:_FINGERPRINT_BYTES] != self._fingerprint or len(body) < _HEAD_BYTES:
            raise WireError(f"the body is not {self.name} for this model's layout of {len(self.layout)} tensors")
        return memoryview(body)[_HEAD_BYTES:]

    def _checked(self, body: bytes, decoded: Tensors, context: CodingContext) -> Tensors:
        """Return the decoded tensors. Errors: `Diverged` if the check in the body's head is that of other values."""
        if body[_FINGERPRINT_BYTES:_HEAD_BYTES] != _value_check(decoded, context.base_model):
            raise Diverged(
                "the body gives other values here than where it was written: what was known beforehand is not the "
                "same, or another version or machine computes differently"
            )
        return decoded

    def _finite_tensors(self, values: Tensor) -> Tensors:
        """Return decoded values [n] as tensors. Errors: `WireError` if a value is NaN or infinite."""
        tensors = self.layout.split(values)
        try:
            require_finite(values, tensors)
        except NotFinite as error:
            raise WireError(str(error)) from None
        return tensors


class FixedLengthCodec(Codec):
    """A codec whose bodies have one length, which depends only on the layout, and need no context.

    A body is the head of 4 bytes and the encoded values, `coded_bytes` long, in the order of the layout.
    """

    def encode(self, tensors: Tensors) -> bytes:
        """Return the body. Errors: as for `send`."""
        return self.body(tensors, CodingContext())

    def decode(self, body: bytes) -> Tensors:
        """Return the decoded tensors. Errors: as for `receive`."""
        return self.receive(body, CodingContext())

    def send(
        self, tensors: Tensors, context: CodingContext, history: ChangeHistory | None = None
    ) -> tuple[bytes, Tensors]:
        self.layout.check(tensors)
        coded = self._write(tensors)
        try:
            received = self._read(memoryview(coded))
        except WireError as error:  # a finite value may be encoded as an infinite one
            raise NotFinite(str(error)) from None
        return self._head(received, context) + coded, received

    def receive(self, body: bytes, context: CodingContext, history: ChangeHistory | None = None) -> Tensors:
        coded = self._without_head(body)
        size = self.coded_bytes
        if len(coded) != size:
            raise WireError(f"the body has {len(body)} bytes, not {_HEAD_BYTES + size}")
        return self._checked(body, self._read(coded), context)

    @property
    def most_bytes(self) -> int:
        return _HEAD_BYTES + self.coded_bytes

    @property
    @abstractmethod
    def coded_bytes(self) -> int:
        """Return the length of the encoded values in bytes, without the head."""

    @abstractmethod
    def _write(self, tensors: Tensors) -> bytes: ...

    @abstractmethod
    def _read(self, data: memoryview) -> Tensors: ...


def flatten(tensors: Tensors) -> Tensor:
    """Return all values as one new vector [n], in order."""
    if not tensors:
        return torch.zeros(0)
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors.values()])


def require_finite(values: Tensor, tensors: Tensors) -> None:
    """Raise `NotFinite` if a value is NaN or infinite; the message names its tensor.

    values: [n], the values of all `tensors` in order.
    """
    # If the sum is finite, all values are; that takes a fifth of the time of a check of each value. The sum of finite
    # values may overflow, so each value is checked if it is not finite.
    if bool(torch.isfinite(values.sum())):
        return
    for (name, tensor), part in zip(
        tensors.items(), torch.split(values, [t.numel() for t in tensors.values()]), strict=True
    ):
        count = int((~torch.isfinite(part)).sum())
        if count:
            raise NotFinite(f"{name} has {count} values that are NaN or infinite, of {tensor.numel()}")


def _value_check(tensors: Tensors, base_model: Tensor | None) -> bytes:
    """Return the lower 2 bytes of the CRC-32 of all values, with 0 in the place of -0.

    base_model: a vector [n] that is added to the values first.
    """
    checksum = 0
    for tensor in tensors.values() if base_model is None else [flatten(tensors) + base_model]:
        may_be_negative_zero = tensor.is_floating_point() and tensor.itemsize > 1  # types of 1 byte have no addition
        values = tensor.detach() + 0 if may_be_negative_zero else tensor.detach()
        checksum = zlib.crc32(values.contiguous().view(-1).view(torch.uint8).numpy().data, checksum)
    return struct.pack("<H", checksum & 0xFFFF)


def to_array(data: memoryview, dtype: str) -> np.ndarray:
    """Return a writable copy of little-endian numbers of that type, [len(data) / item size]."""
    return np.frombuffer(data, dtype=np.dtype(dtype).newbyteorder("<")).astype(np.dtype(dtype))
