"""Masked noise: both sides draw the same noise, the mask is unbiased, and a value takes at most one bit."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onebasin.codecs.chain import Chain, parse_chain
from onebasin.codecs.context import CodingContext
from onebasin.codecs.stages.masked_noise import MaskedNoise, clipped, masked, stochastic_mask
from onebasin.core.layout import Layout

VALUES = torch.tensor([0.1, -5.0, 0.2, 3.0, 0.0, -0.3, 0.4, 0.1])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_noise_is_the_same_in_every_process() -> None:
    noise = MaskedNoise(magnitude=1.0).draw(6, CodingContext(7, 1, 2))
    assert (noise * 2**23).tolist() == [4517955, 5803231, 8094879, 3742611, 5209307, 6883375]
    assert torch.equal(MaskedNoise(magnitude=1.0).draw(3, CodingContext(7, 1, 2)), noise[:3])
    assert torch.equal(MaskedNoise(magnitude=0.25, mask="signed").draw(6, CodingContext(7, 1, 2)), noise / 4)
    assert torch.equal(MaskedNoise(magnitude=0.25, noise="sign").draw(6, CodingContext(7, 1, 2)), noise.sign() / 4)
    for other in (CodingContext(8, 1, 2), CodingContext(7, 2, 2), CodingContext(7, 1, 3)):
        assert not (MaskedNoise(magnitude=1.0).draw(6, other) == noise).any()


def test_noise_is_uniform_and_never_zero() -> None:
    noise = MaskedNoise(magnitude=2.0).draw(100_001, CodingContext())
    assert len(noise) == 100_001
    assert 0 < noise.abs().min() < noise.abs().max() <= 2
    assert noise.mean().item() == pytest.approx(0.0, abs=0.02)
    assert noise.square().mean().item() == pytest.approx(4 / 3, rel=0.02)
    assert len(MaskedNoise().draw(0, CodingContext())) == 0


def test_a_binary_message_computed_by_hand() -> None:
    """Value u keeps its noise n with probability u / n: certainly if it is beyond n, never if it has the other sign."""
    noise = MaskedNoise(magnitude=1.0).draw(8, CodingContext())
    assert [round(value, 3) for value in noise.tolist()] == [0.381, 0.157, -0.194, 0.079, -0.72, -0.182, 0.33, 0.493]
    body, received = Chain("masked-noise 1", Layout.of({"w": VALUES})).send({"w": VALUES}, CodingContext())
    kept = torch.tensor([0, 0, 0, 1, 0, 1, 1, 1])  # the probabilities are 0.26, 0, 0, 1, 0, 1, 1, 0.2
    assert torch.equal(received["w"], noise * kept)
    # 2 bits for the grouping, log2(5) + 2 for the count 4, and 8 for the flags: 14.3, rounded up to words of 32
    assert len(body) == 4 + 4


def test_a_signed_message_computed_by_hand() -> None:
    noise = MaskedNoise(magnitude=1.0).draw(8, CodingContext())
    body, received = Chain("masked-noise 1 mask=signed", Layout.of({"w": VALUES})).send({"w": VALUES}, CodingContext())
    certain = [1, 3, 5, 6]  # values beyond the noise: decoded with the magnitude of the noise and their own sign
    assert received["w"][certain].tolist() == (noise.abs() * VALUES.sign())[certain].tolist()
    assert torch.equal(received["w"].abs(), noise.abs())
    assert len(body) == 4 + 4


@given(
    st.lists(st.tuples(st.floats(-4, 4, width=32), st.floats(0.5, 2, width=32), st.booleans()), min_size=1),
    st.booleans(),
    st.integers(0, 9),
)
def test_noise_is_kept_or_dropped_for_certain_outside_its_range(
    pairs: list[tuple[float, float, bool]], signed: bool, seed: int
) -> None:
    values = torch.tensor([value for value, _, _ in pairs])
    noise = torch.tensor([size if positive else -size for _, size, positive in pairs])
    kept = stochastic_mask(values, noise, signed, generator(seed))
    share = values / noise
    assert kept[share >= 1].all()
    assert not kept[share <= (-1 if signed else 0)].any()
    received = masked(noise, kept, signed)
    assert torch.equal(received.abs(), noise.abs() if signed else noise.abs() * kept)
    inside = clipped(values, noise, signed)
    assert (inside.abs() <= noise.abs() * 1.0001).all()
    within = (share >= (-1 if signed else 0)) & (share <= 1)
    torch.testing.assert_close(inside[within], values[within])


@pytest.mark.parametrize("signed", [False, True])
def test_masked_noise_equals_the_clipped_values_on_average(signed: bool) -> None:
    noise = torch.tensor([0.5, -0.5, 1.0, -1.0, 0.3])
    values = torch.tensor([0.2, 0.2, -3.0, -0.9, 0.3])
    count, draws = 20_000, generator(0)
    kept = stochastic_mask(values.repeat(count, 1), noise.repeat(count, 1), signed, draws)
    mean = masked(noise, kept, signed).mean(0)
    expected = [0.2, 0.2, -1.0, -0.9, 0.3] if signed else [0.2, 0.0, 0.0, -0.9, 0.3]
    assert clipped(values, noise, signed).tolist() == pytest.approx(expected)
    assert mean.tolist() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("text", "bits"), [("masked-noise 0.01", 0.914), ("masked-noise 0.03", 0.68), ("masked-noise 0.01 mask=signed", 1)]
)
def test_a_value_takes_at_most_one_bit(text: str, bits: float) -> None:
    """The entropy of the share that is kept; it falls with the magnitude. Values are normal with deviation 0.005."""
    values = {"w": 0.005 * torch.randn(61_706, generator=generator(0))}
    body, received = Chain(text, Layout.of(values)).send(values, CodingContext())
    share = (
        (received["w"] > 0).float().mean().item() if "signed" in text else (received["w"] != 0).float().mean().item()
    )
    entropy = -sum(p * math.log2(p) for p in (share, 1 - share))
    assert 8 * len(body) / 61_706 == pytest.approx(entropy, abs=0.003)
    assert entropy == pytest.approx(bits, abs=0.01)


def test_values_far_beyond_the_noise_are_clipped() -> None:
    values = {"w": torch.tensor([3e38, -3e38, 1e-38, 0.0])}
    chain = Chain("masked-noise 1e-9 mask=signed", Layout.of(values))
    body, received = chain.send(values, CodingContext())
    assert received["w"][0] > 0 > received["w"][1]
    assert received["w"].abs().max() <= 1e-9
    assert torch.equal(chain.receive(body, CodingContext())["w"], received["w"])


@pytest.mark.parametrize("setting", ["0", "-1", "nan", "inf", "0.01 mask=both", "0.01 noise=normal"])
def test_invalid_settings_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="masked-noise: "):
        parse_chain(f"masked-noise {setting}")
