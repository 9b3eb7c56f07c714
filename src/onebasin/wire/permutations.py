"""Permutations as bytes: a number in the factorial system, which is as short as a permutation can be told."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from onebasin.wire.error import WireError


def coded_bytes(sizes: Sequence[int]) -> int:
    """Bytes that permutations of these sizes take together: log2 of the product of n!, rounded up."""
    return ((math.prod(map(math.factorial, sizes)) - 1).bit_length() + 7) // 8


def encode_permutations(permutations: Sequence[Sequence[int]]) -> bytes:
    """Return the permutations as one little-endian whole number.

    Its digits, the most significant first, are for each permutation and each of its places but the last: how many of
    the indices that are left are smaller (the Lehmer code), in the base of how many are left.
    `ValueError` if one is not a permutation of 0 to n - 1.
    """
    number = 0
    for permutation in permutations:
        if sorted(permutation) != list(range(len(permutation))):
            raise ValueError(f"not a permutation: {list(permutation)[:8]}...")
        left = list(range(len(permutation)))
        for index in permutation:
            place = bisect_left(left, index)
            number = number * len(left) + place
            del left[place]
    return number.to_bytes(coded_bytes([len(p) for p in permutations]), "little")


def decode_permutations(data: bytes, sizes: Sequence[int]) -> list[list[int]]:
    """Return the permutations of these sizes that `data` tells; `WireError` when it is too long, short or large."""
    expected = coded_bytes(sizes)
    if len(data) != expected:
        raise WireError(f"permutations of {sum(sizes)} neurons take {expected} bytes, not {len(data)}")
    number = int.from_bytes(data, "little")
    digits: list[list[int]] = []
    for size in reversed(sizes):
        places = []
        for base in range(1, size + 1):
            number, place = divmod(number, base)
            places.append(place)
        digits.append(places[::-1])
    if number:
        raise WireError("the number is larger than any that these permutations have")
    permutations = []
    for size, places in zip(sizes, reversed(digits), strict=True):
        left = list(range(size))
        permutations.append([left.pop(place) for place in places])
    return permutations
