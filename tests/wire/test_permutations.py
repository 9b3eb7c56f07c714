import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onebasin.wire.error import WireError
from onebasin.wire.permutations import coded_bytes, decode_permutations, encode_permutations


def test_examples_computed_by_hand() -> None:
    """[2, 0, 1]: of 3 remaining indices two are smaller than 2, then of 2 none is smaller than 0: 2 * 2 + 0 = 4."""
    assert encode_permutations([[2, 0, 1]]) == bytes([4])
    assert encode_permutations([[0, 1, 2]]) == bytes([0])
    assert encode_permutations([[1, 0], [2, 1, 0]]) == bytes([1 * 6 + 5])
    assert decode_permutations(bytes([11]), [2, 3]) == [[1, 0], [2, 1, 0]]


def test_byte_counts() -> None:
    assert coded_bytes([]) == 0
    assert coded_bytes([1, 1]) == 0
    assert coded_bytes([5]) == 1  # 120
    assert coded_bytes([6]) == 2  # 720
    lenet5 = [6, 16, 120, 84]
    bits = sum(math.lgamma(n + 1) for n in lenet5) / math.log(2)
    assert coded_bytes(lenet5) == math.ceil(bits / 8) == 142


@given(st.lists(st.integers(0, 40), max_size=5), st.integers(0, 10**6))
def test_encoded_permutations_are_decoded_back(sizes: list[int], seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    permutations = [torch.randperm(size, generator=draws).tolist() for size in sizes]
    data = encode_permutations(permutations)
    assert len(data) == coded_bytes(sizes)
    assert decode_permutations(data, sizes) == permutations


@given(st.binary(min_size=142, max_size=142))
def test_any_bytes_decode_to_permutations_or_are_refused(data: bytes) -> None:
    sizes = [6, 16, 120, 84]
    largest = math.prod(map(math.factorial, sizes))
    if int.from_bytes(data, "little") >= largest:
        with pytest.raises(WireError, match="larger than any"):
            decode_permutations(data, sizes)
        return
    decoded = decode_permutations(data, sizes)
    assert [sorted(permutation) for permutation in decoded] == [list(range(size)) for size in sizes]
    assert encode_permutations(decoded) == data


def test_sequences_and_bytes_that_are_no_permutations_are_refused() -> None:
    with pytest.raises(ValueError, match="not a permutation"):
        encode_permutations([[0, 0]])
    with pytest.raises(WireError, match="permutations of 6 neurons take 2 bytes, not 3"):
        decode_permutations(b"abc", [6])
    with pytest.raises(WireError, match="larger than any"):
        decode_permutations(bytes([24]), [4])
