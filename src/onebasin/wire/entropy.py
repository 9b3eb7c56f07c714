"""Entropy coding: one range coder a body, fed with symbols whose probabilities both sides know.

Everything in such a body goes through the one coder, plain numbers too, so that nothing is rounded up to whole bytes
but the end. Probabilities come from counts that were sent before, or from what both sides hold; they are quantised to
24 bits. The coder is constriction's (Bamler: Understanding Entropy Coding With Asymmetric Numeral Systems. 2022, arXiv
2201.01741).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import constriction
import numpy as np

from onebasin.wire.error import WireError

Ints = np.ndarray[Any, np.dtype[np.int32]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Chances = np.ndarray[Any, np.dtype[np.float64]]

_models = constriction.stream.model
_HALF = 16
FEW = 2
"""So many ones are told by their places: from three on, telling place by place whether there is one is shorter."""


class SymbolWriter:
    """Takes symbols and, at the end, gives their bytes."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def integers(self, values: Ints, size: int) -> None:
        """Whole numbers from 0 to size - 1, all alike; size is at most 2^16: log2(size) bits each."""
        if size > 1 and len(values):
            self._coder.encode(_int32(values), _models.Uniform(size))

    def integer(self, value: int, size: int) -> None:
        """One whole number from 0 to size - 1, for any size: log2(size) bits, rounded up to 16 from 2^16 on."""
        for shift, base in _pieces(size):
            self.integers(np.array([(value >> shift) % base]), base)

    def count(self, value: int, most: int) -> None:
        """A whole number from 0 to `most`, small ones in fewer bits: how many bits it has, then all but the first."""
        length = value.bit_length()
        self.integer(length, most.bit_length() + 1)
        if length > 1:
            self.integer(value - (1 << (length - 1)), 1 << (length - 1))

    def floats(self, values: np.ndarray[Any, Any], dtype: str = "<f4") -> None:
        """Floats as they are: 32 bits each, or 16 (``<f2``)."""
        self.integers(np.frombuffer(values.astype(dtype).tobytes(), dtype="<u2"), 1 << _HALF)

    def flags(self, flags: Flags) -> None:
        """Independent yes or no: their count, then their empirical entropy, or the places of a few."""
        ones = int(flags.sum())
        self.count(ones, len(flags))
        if not 0 < ones < len(flags):
            return
        if ones <= FEW:
            for place in np.flatnonzero(flags):
                self.integer(int(place), len(flags))
        else:
            self._coder.encode(_int32(flags), _models.Bernoulli(ones / len(flags), perfect=False))

    def likely_flags(self, flags: Flags, chances: Chances) -> None:
        """Independent yes or no, each with a chance of yes that both sides know: -log2 of the chance of what it is."""
        if len(flags):
            self._coder.encode(_int32(flags), _models.Bernoulli(perfect=False), _bounded(chances))

    def symbols(self, symbols: Ints, size: int) -> None:
        """Independent symbols from 0 to size - 1: how often each occurs, then their empirical entropy.

        Or, where that is shorter, all alike; one bit says so.
        """
        counts = np.bincount(symbols, minlength=size)
        counted = counted_cost(counts.tolist()) < len(symbols) * math.log2(size)
        self.integer(counted, 2)
        if not counted:
            self.integers(symbols, size)
            return
        left = len(symbols)
        for occurs in counts[:-1].tolist():
            self.count(occurs, left)
            left -= occurs
        if len(symbols) and counts.max() < len(symbols):
            self._coder.encode(_int32(symbols), _categorical(counts))

    def finish(self) -> bytes:
        """All that was written. Zero bytes at the end are left out; a reader goes on with zeros."""
        words = self._coder.get_compressed()
        return bytes(words.astype("<u4").tobytes().rstrip(b"\0"))


class SymbolReader:
    """Gives the symbols of a writer's bytes, asked in the same order.

    Any bytes give some symbols, none outside of what was asked for; `WireError` where the coder knows that they cannot
    have been written. What is allocated depends on what is asked for alone.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        padded = bytes(data) + bytes(-len(data) % 4)
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, dtype="<u4").astype(np.uint32))

    def integers(self, count: int, size: int) -> Ints:
        if size <= 1 or not count:
            return np.zeros(count, dtype=np.int32)
        return self._read(lambda: self._coder.decode(_models.Uniform(size), count))

    def integer(self, size: int) -> int:
        value = 0
        for shift, base in _pieces(size):
            value |= int(self.integers(1, base)[0]) << shift
        if value >= size:
            raise WireError(f"a number is {value}; at most {size - 1} can be")
        return value

    def count(self, most: int) -> int:
        length = self.integer(most.bit_length() + 1)
        value = self.integer(1 << (length - 1)) + (1 << (length - 1)) if length > 1 else length
        if value > most:
            raise WireError(f"a count is {value}; at most {most} can be")
        return value

    def floats(self, count: int, dtype: str = "<f4") -> np.ndarray[Any, Any]:
        halves = self.integers(count * np.dtype(dtype).itemsize // 2, 1 << _HALF)
        return np.frombuffer(halves.astype("<u2").tobytes(), dtype=dtype).astype(np.dtype(dtype).newbyteorder("="))

    def flags(self, count: int) -> Flags:
        ones = self.count(count)
        if not 0 < ones < count:
            return np.full(count, ones > 0, dtype=np.bool_)
        if ones <= FEW:
            flags = np.zeros(count, dtype=np.bool_)
            for _ in range(ones):
                flags[self.integer(count)] = True
            return flags
        model = _models.Bernoulli(ones / count, perfect=False)
        return self._read(lambda: self._coder.decode(model, count)) > 0

    def likely_flags(self, chances: Chances) -> Flags:
        if not len(chances):
            return np.zeros(0, dtype=np.bool_)
        return self._read(lambda: self._coder.decode(_models.Bernoulli(perfect=False), _bounded(chances))) > 0

    def symbols(self, count: int, size: int) -> Ints:
        if not self.integer(2):
            return self.integers(count, size)
        counts = np.zeros(size, dtype=np.int64)
        left = count
        for symbol in range(size - 1):
            counts[symbol] = self.count(left)
            left -= int(counts[symbol])
        counts[-1] = left
        if not count or counts.max() == count:
            return np.full(count, int(counts.argmax()), dtype=np.int32)
        return self._read(lambda: self._coder.decode(_categorical(counts), count))

    def _read(self, decode: Callable[[], Ints]) -> Ints:
        try:
            return decode()
        except AssertionError as error:
            raise WireError(f"coded symbols are damaged: {error}") from None


def count_cost(value: int, most: int) -> float:
    """Bits that a count takes."""
    return math.log2(most.bit_length() + 1) + max(value.bit_length() - 1, 0)


def flags_cost(ones: int, count: int) -> float:
    """Bits that flags take, of which so many are set."""
    told = count_cost(ones, count)
    if not 0 < ones < count:
        return told
    return told + (ones * math.log2(count) if ones <= FEW else entropy([ones, count - ones]))


def likely_flags_cost(flags: Flags, chances: Chances) -> float:
    """Bits that flags take, of which each has a chance that both sides know."""
    bounded = _bounded(chances)
    return float(-np.log2(np.where(flags, bounded, 1 - bounded)).sum())


def counted_cost(counts: Sequence[int]) -> float:
    """Bits that symbols take which occur so often, counts and all."""
    left, total = sum(counts), entropy(counts)
    for occurs in counts[:-1]:
        total += count_cost(occurs, left)
        left -= occurs
    return total


def entropy(counts: Sequence[int]) -> float:
    """Bits of all symbols together that occur so often."""
    total = sum(counts)
    return sum(occurs * math.log2(total / occurs) for occurs in counts if occurs)


def _bounded(chances: Chances) -> Chances:
    """Chances that are neither 0 nor 1: in steps of 2^-16, so that they do not hang on the last bit of a logarithm."""
    steps = 1 << _HALF
    return np.clip(np.rint(chances * steps), 1, steps - 1) / steps


def _int32(values: np.ndarray[Any, Any]) -> Ints:
    return np.ascontiguousarray(values, dtype=np.int32)


def _categorical(counts: np.ndarray[Any, Any]) -> Any:
    """Probabilities from counts; a symbol that does not occur gets the least that the coder can say."""
    return _models.Categorical(counts / counts.sum(), perfect=False)


def _pieces(size: int) -> list[tuple[int, int]]:
    """How a number below `size` is cut: shift and base of each piece, one up to 2^16, else one for every 16 bits."""
    if size <= 1 << _HALF:
        return [(0, size)]
    bits = (size - 1).bit_length()
    return [(shift, 1 << min(_HALF, bits - shift)) for shift in range(0, bits, _HALF)]
