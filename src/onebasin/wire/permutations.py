"""Permutations as one integer in the factorial number system: as few bytes as a permutation can have."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from onebasin.wire.error import WireError


def coded_bytes(sizes: Sequence[int]) -> int:
    """Return the number of bytes of encoded permutations of these sizes: log2 of the product of all n!, rounded up."""
    return ((math.prod(map(math.factorial, sizes)) - 1).bit_length() + 7) // 8


def encode_permutations(permutations: Sequence[Sequence[int]]) -> bytes:
    """Return the permutations, each of 0 to n - 1, as one little-endian integer of `coded_bytes` bytes.

    Its digits, the most significant first, are the Lehmer codes of the permutations, in order: for each position, how
    many of the remaining indices are smaller than the one at that position, in the base of how many indices remain.
    Errors: `ValueError` if a sequence is not a permutation of 0 to n - 1.
    """
    number = 0
    for permutation in permutations:
        if sorted(permutation) != list(range(len(permutation))):
            raise ValueError(f"not a permutation: {list(permutation)[:8]}...")
        remaining = list(range(len(permutation)))
        for index in permutation:
            digit = bisect_left(remaining, index)
            number = number * len(remaining) + digit
            del remaining[digit]
    return number.to_bytes(coded_bytes([len(p) for p in permutations]), "little")


def decode_permutations(data: bytes, sizes: Sequence[int]) -> list[list[int]]:
    """Return the permutations of these sizes that `encode_permutations` wrote.

    Errors: `WireError` if `data` has another length, or encodes a larger integer than such permutations have.
    """
    expected = coded_bytes(sizes)
    if len(data) != expected:
        raise WireError(f"permutations of {sum(sizes)} neurons take {expected} bytes, not {len(data)}")
    number = int.from_bytes(data, "little")
    codes: list[list[int]] = []
    for size in reversed(sizes):
        code = []
        for base in range(1, size + 1):
            number, digit = divmod(number, base)
            code.append(digit)
        codes.append(code[::-1])
    if number:
        raise WireError("the number is larger than any that these permutations have")
    permutations = []
    for size, code in zip(sizes, reversed(codes), strict=True):
        remaining = list(range(size))
        permutations.append([remaining.pop(digit) for digit in code])
    return permutations
