"""Entropy coding: one range coder per body, and symbols whose probabilities both sides know.

All numbers of a body go through the same coder, so only the end of the body is rounded up to a whole number of bytes.
Probabilities come from counts that were written before, or from a model that both sides have; the coder quantises them
to 24 bits. The coder is the one of the package constriction (Bamler: Understanding Entropy Coding With Asymmetric
Numeral Systems. 2022, arXiv 2201.01741).
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
Probabilities = np.ndarray[Any, np.dtype[np.float64]]

_models = constriction.stream.model
_CHUNK_BITS = 16
"""The coder's uniform distributions have at most 2^16 symbols; larger numbers are cut into chunks."""
_PROBABILITY_STEPS = 1 << 16
MAX_POSITIONED = 2
"""Up to this many ones among flags are coded by their positions; with more, one coded bit per flag is shorter."""


class SymbolWriter:
    """Encodes symbols of several types into one stream. `SymbolReader` decodes them in the same order."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def integers(self, values: Ints, size: int) -> None:
        """Write integers [n] from 0 to size - 1, equally probable; size is at most 2^16. Cost: log2(size) bits each."""
        if size > 1 and len(values):
            self._coder.encode(_int32(values), _models.Uniform(size))

    def integer(self, value: int, size: int) -> None:
        """Write an integer from 0 to size - 1, for any size.

        Cost: log2(size) bits up to 2^16; above, the number of bits of size - 1.
        """
        for shift, base in _chunks(size):
            self.integers(np.array([(value >> shift) % base]), base)

    def count(self, value: int, most: int) -> None:
        """Write an integer from 0 to `most`: its number of binary digits, then all digits but the first.

        Small numbers take fewer bits. Cost: `count_cost`.
        """
        digits = value.bit_length()
        self.integer(digits, most.bit_length() + 1)
        if digits > 1:
            self.integer(value - (1 << (digits - 1)), 1 << (digits - 1))

    def floats(self, values: np.ndarray[Any, Any], dtype: str = "<f4") -> None:
        """Write floats [n] unchanged but for their type. Cost: 32 bits each, or 16 with dtype ``<f2``."""
        self.integers(np.frombuffer(values.astype(dtype).tobytes(), dtype="<u2"), 1 << _CHUNK_BITS)

    def flags(self, flags: Flags) -> None:
        """Write booleans [n]: the count k of ones, then each flag with probability k / n of a one.

        Up to `MAX_POSITIONED` ones are written as positions instead. Cost: `flags_cost`.
        """
        ones = int(flags.sum())
        self.count(ones, len(flags))
        if not 0 < ones < len(flags):
            return
        if ones <= MAX_POSITIONED:
            for position in np.flatnonzero(flags):
                self.integer(int(position), len(flags))
        else:
            self._coder.encode(_int32(flags), _models.Bernoulli(ones / len(flags), perfect=False))

    def flags_by_probability(self, flags: Flags, probabilities: Probabilities) -> None:
        """Write booleans [n], each with a probability [n] of a one that the reader knows.

        Cost: `flags_by_probability_cost`.
        """
        if len(flags):
            self._coder.encode(_int32(flags), _models.Bernoulli(perfect=False), _quantised(probabilities))

    def symbols(self, symbols: Ints, size: int) -> None:
        """Write symbols [n] from 0 to size - 1 in the shorter of two ways; one bit names it.

        1: the count of each symbol but the last, then each symbol with its share as probability. 0: all symbols equally
        probable.
        """
        counts = np.bincount(symbols, minlength=size)
        with_counts = counted_symbols_cost(counts.tolist()) < len(symbols) * math.log2(size)
        self.integer(with_counts, 2)
        if not with_counts:
            self.integers(symbols, size)
            return
        remaining = len(symbols)
        for count in counts[:-1].tolist():
            self.count(count, remaining)
            remaining -= count
        if len(symbols) and counts.max() < len(symbols):
            self._coder.encode(_int32(symbols), _categorical(counts))

    def finish(self) -> bytes:
        """Return the encoded stream. Zero bytes at its end are left out, because a reader supplies them."""
        words = self._coder.get_compressed()
        return bytes(words.astype("<u4").tobytes().rstrip(b"\0"))


class SymbolReader:
    """Decodes the stream of a `SymbolWriter`. Each method returns what the method of that name wrote.

    The calls must have the order and the sizes of the writer's. Any bytes either decode to values in the requested
    range or raise `WireError`. The memory used depends only on the requested sizes.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        padded = bytes(data) + bytes(-len(data) % 4)
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, dtype="<u4").astype(np.uint32))

    def integers(self, count: int, size: int) -> Ints:
        """Return integers [count] from 0 to size - 1."""
        if size <= 1 or not count:
            return np.zeros(count, dtype=np.int32)
        return self._decode(lambda: self._coder.decode(_models.Uniform(size), count))

    def integer(self, size: int) -> int:
        """Return an integer from 0 to size - 1."""
        value = 0
        for shift, base in _chunks(size):
            value |= int(self.integers(1, base)[0]) << shift
        if value >= size:
            raise WireError(f"a number is {value}; at most {size - 1} can be")
        return value

    def count(self, most: int) -> int:
        """Return an integer from 0 to `most`."""
        digits = self.integer(most.bit_length() + 1)
        value = self.integer(1 << (digits - 1)) + (1 << (digits - 1)) if digits > 1 else digits
        if value > most:
            raise WireError(f"a count is {value}; at most {most} can be")
        return value

    def floats(self, count: int, dtype: str = "<f4") -> np.ndarray[Any, Any]:
        """Return floats [count] of that type, in the machine's byte order; they may be NaN or infinite."""
        chunks = self.integers(count * np.dtype(dtype).itemsize // 2, 1 << _CHUNK_BITS)
        return np.frombuffer(chunks.astype("<u2").tobytes(), dtype=dtype).astype(np.dtype(dtype).newbyteorder("="))

    def flags(self, count: int) -> Flags:
        """Return booleans [count]."""
        ones = self.count(count)
        if not 0 < ones < count:
            return np.full(count, ones > 0, dtype=np.bool_)
        if ones <= MAX_POSITIONED:
            flags = np.zeros(count, dtype=np.bool_)
            for _ in range(ones):
                flags[self.integer(count)] = True
            return flags
        model = _models.Bernoulli(ones / count, perfect=False)
        return self._decode(lambda: self._coder.decode(model, count)) > 0

    def flags_by_probability(self, probabilities: Probabilities) -> Flags:
        """Return booleans [n], each written with a probability [n] of a one."""
        if not len(probabilities):
            return np.zeros(0, dtype=np.bool_)
        return self._decode(lambda: self._coder.decode(_models.Bernoulli(perfect=False), _quantised(probabilities))) > 0

    def symbols(self, count: int, size: int) -> Ints:
        """Return symbols [count] from 0 to size - 1."""
        if not self.integer(2):
            return self.integers(count, size)
        counts = np.zeros(size, dtype=np.int64)
        remaining = count
        for symbol in range(size - 1):
            counts[symbol] = self.count(remaining)
            remaining -= int(counts[symbol])
        counts[-1] = remaining
        if not count or counts.max() == count:
            return np.full(count, int(counts.argmax()), dtype=np.int32)
        return self._decode(lambda: self._coder.decode(_categorical(counts), count))

    def _decode(self, decode: Callable[[], Ints]) -> Ints:
        try:
            return decode()
        except AssertionError as error:
            raise WireError(f"coded symbols are damaged: {error}") from None


def count_cost(value: int, most: int) -> float:
    """Return the bits that `SymbolWriter.count` takes."""
    return math.log2(most.bit_length() + 1) + max(value.bit_length() - 1, 0)


def flags_cost(ones: int, count: int) -> float:
    """Return the bits that `SymbolWriter.flags` takes for `count` flags, of which `ones` are set."""
    bits = count_cost(ones, count)
    if not 0 < ones < count:
        return bits
    return bits + (ones * math.log2(count) if ones <= MAX_POSITIONED else entropy([ones, count - ones]))


def flags_by_probability_cost(flags: Flags, probabilities: Probabilities) -> float:
    """Return the bits that `SymbolWriter.flags_by_probability` takes: -log2 of the probability of each flag's value."""
    quantised = _quantised(probabilities)
    return float(-np.log2(np.where(flags, quantised, 1 - quantised)).sum())


def counted_symbols_cost(counts: Sequence[int]) -> float:
    """Return the bits of symbols that are coded with their counts: the counts, and the symbols at their entropy."""
    remaining, total = sum(counts), entropy(counts)
    for count in counts[:-1]:
        total += count_cost(count, remaining)
        remaining -= count
    return total


def entropy(counts: Sequence[int]) -> float:
    """Return the empirical entropy of all symbols together, in bits. counts: how often each symbol occurs."""
    total = sum(counts)
    return sum(count * math.log2(total / count) for count in counts if count)


def _quantised(probabilities: Probabilities) -> Probabilities:
    """Return probabilities rounded to steps of 2^-16, and never 0 or 1.

    After rounding, machines whose sigmoids differ in the last bit have equal probabilities in nearly all cases.
    """
    return np.clip(np.rint(probabilities * _PROBABILITY_STEPS), 1, _PROBABILITY_STEPS - 1) / _PROBABILITY_STEPS


def _int32(values: np.ndarray[Any, Any]) -> Ints:
    return np.ascontiguousarray(values, dtype=np.int32)


def _categorical(counts: np.ndarray[Any, Any]) -> Any:
    """Return the distribution of symbols with these counts; a count of 0 gets the coder's smallest probability."""
    return _models.Categorical(counts / counts.sum(), perfect=False)


def _chunks(size: int) -> list[tuple[int, int]]:
    """Return the shift and the base of each chunk of an integer below `size`: one up to 2^16, else one per 16 bits."""
    if size <= 1 << _CHUNK_BITS:
        return [(0, size)]
    bits = (size - 1).bit_length()
    return [(shift, 1 << min(_CHUNK_BITS, bits - shift)) for shift in range(0, bits, _CHUNK_BITS)]
