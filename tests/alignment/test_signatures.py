import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onebasin.alignment import AlignmentError
from onebasin.alignment.responses import standardised
from onebasin.alignment.signatures import coded_bytes, decode_signatures, encode_signatures
from onebasin.symmetry import Group, PermutationSpec, TensorAxes
from onebasin.symmetry.expressions import Fixed, Neurons
from onebasin.wire.gaussian_levels import gaussian_levels


def spec_of(neurons: int, features: int) -> PermutationSpec:
    axes = TensorAxes((Neurons("g", neurons), Fixed(features, "probes")))
    return PermutationSpec({"g": Group("g", neurons)}, {"layer": axes})


def test_code_tables_equal_the_published_ones() -> None:
    """Max 1960, table I: levels of the least-squares quantiser of a standard normal distribution."""
    assert gaussian_levels(1)[1].tolist() == pytest.approx([-math.sqrt(2 / math.pi), math.sqrt(2 / math.pi)])
    assert gaussian_levels(2)[1][2:].tolist() == pytest.approx([0.4528, 1.510], abs=5e-4)
    assert gaussian_levels(2)[0].tolist() == pytest.approx([-0.9816, 0.0, 0.9816], abs=5e-4)
    assert gaussian_levels(4)[1][8:].tolist() == pytest.approx(
        [0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733], abs=5e-4
    )


@pytest.mark.parametrize("bits", range(1, 9))
def test_cells_are_in_order_and_symmetric(bits: int) -> None:
    edges, levels = gaussian_levels(bits)
    assert len(levels) == 1 << bits
    assert (np.diff(levels) > 0).all()
    assert (np.diff(edges) > 0).all()
    assert np.allclose(levels, -levels[::-1], atol=1e-6)


def test_one_bit_is_the_sign_packed_from_the_low_end() -> None:
    rows = standardised(torch.tensor([[3.0, -1.0, -1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]))
    data = encode_signatures({"layer": rows}, 1)
    assert data == bytes([0b0011_0001])
    assert torch.equal(decode_signatures(data, spec_of(2, 4), 1)["layer"].sign(), standardised(rows.sign()).sign())


@given(st.integers(1, 5), st.integers(2, 40), st.integers(1, 8), st.integers(0, 10**6))
def test_codes_survive_a_round_trip(neurons: int, features: int, bits: int, seed: int) -> None:
    rows = standardised(torch.randn(neurons, features, generator=torch.Generator().manual_seed(seed)))
    spec = spec_of(neurons, features)
    data = encode_signatures({"layer": rows}, bits)
    assert len(data) == coded_bytes(spec, bits) == -(-neurons * features * bits // 8)
    found = decode_signatures(data, spec, bits)["layer"]
    assert found.shape == rows.shape
    edges, levels = gaussian_levels(bits)
    values = (rows * math.sqrt(features)).double().numpy()
    expected = standardised(torch.from_numpy(levels[np.searchsorted(edges, values)].astype(np.float32)))
    torch.testing.assert_close(found, expected)


def test_more_bits_reduce_the_error() -> None:
    rows = standardised(torch.randn(20, 400, generator=torch.Generator().manual_seed(1)))
    spec = spec_of(20, 400)
    errors = [
        float((decode_signatures(encode_signatures({"layer": rows}, bits), spec, bits)["layer"] - rows).norm())
        for bits in range(1, 7)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05 * errors[0] * 2


def test_invalid_signatures_are_refused() -> None:
    spec = spec_of(2, 8)
    with pytest.raises(AlignmentError, match="the signatures have 3 bytes, not 8"):
        decode_signatures(b"abc", spec, 4)
    for bits in (0, 9):
        with pytest.raises(ValueError, match=f"bits: {bits}; expected 1 to 8"):
            decode_signatures(bytes(coded_bytes(spec, bits)), spec, bits)
