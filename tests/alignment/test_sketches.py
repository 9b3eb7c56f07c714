import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onebasin.alignment import AlignmentError
from onebasin.alignment.ensemble_targets import consult
from onebasin.alignment.probes import noise, tokens
from onebasin.alignment.sketches import Sketch, SketchForm, draw, log_density, shares_of, sketch

FORM = SketchForm((6,), 3, rank=2)


def vectors(count: int, seed: int) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    spread = torch.tensor([3.0, 2.0, 0.1, 0.1, 0.1, 0.1])
    return torch.randn(count, 6, generator=draws) * spread + torch.tensor([1.0, 0.0, -1.0, 0.0, 2.0, 0.0])


def test_sizes_to_the_byte() -> None:
    assert FORM.coded_bytes == 12 + 3 * 4 + 3 * (4 + 6)
    images = SketchForm((1, 28, 28), 10, rank=20, shrink=2)
    assert images.reduced == (1, 14, 14)
    assert images.coded_bytes == 12 + 40 + 21 * 200
    assert SketchForm((9, 128), 6, shrink=3).reduced == (9, 43)


def test_a_sketch_has_mean_directions_range_and_counts() -> None:
    inputs = vectors(4000, 0)
    result = sketch(inputs, torch.arange(4000) % 2, FORM)
    torch.testing.assert_close(result.mean, inputs.mean(0), atol=0.02, rtol=0.02)
    assert result.directions.norm(dim=1).tolist() == pytest.approx([3.0, 2.0], rel=0.03)
    assert result.rest == pytest.approx(0.01, rel=0.05)
    assert (result.low, result.high) == pytest.approx((float(inputs.min()), float(inputs.max())))
    assert result.counts.tolist() == [2000, 2000, 0]


def test_the_density_is_that_of_the_gaussian() -> None:
    result = sketch(vectors(500, 1), torch.zeros(500, dtype=torch.long), FORM)
    covariance = result.directions.double().T @ result.directions.double() + result.rest * torch.eye(
        6, dtype=torch.float64
    )
    exact = torch.distributions.MultivariateNormal(result.mean.double(), covariance)
    points = vectors(20, 2)
    torch.testing.assert_close(log_density([result], points)[0], exact.log_prob(points.double()) / 6)


def test_drawn_inputs_have_the_clients_statistics() -> None:
    first, second = vectors(3000, 3), vectors(1000, 4) + 10
    targets = torch.zeros(3000, dtype=torch.long)
    drawn = draw([sketch(first, targets, FORM), sketch(second, targets[:1000], FORM)], 8000, seed=5)
    assert len(drawn) == 8000
    torch.testing.assert_close(drawn[:6000].mean(0), first.mean(0), atol=0.15, rtol=0)
    torch.testing.assert_close(drawn[6000:].mean(0), second.mean(0), atol=0.25, rtol=0)
    assert float(drawn[:6000].max()) <= float(first.max())
    assert torch.equal(drawn, draw([sketch(first, targets, FORM), sketch(second, targets[:1000], FORM)], 8000, seed=5))


def test_images_are_reduced_and_restored() -> None:
    form = SketchForm((1, 4, 4), 2, rank=3, shrink=2)
    image = torch.tensor([[[[1.0, 3.0, 5.0, 5.0]] * 4]]).reshape(1, 1, 4, 4)
    assert form.reduce(image).tolist() == [[2.0, 5.0, 2.0, 5.0]]
    assert form.restore(form.reduce(image)).shape == (1, 1, 4, 4)


@given(st.integers(0, 50), st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(sum))
def test_shares_add_up(count: int, weights: list[int]) -> None:
    found = shares_of(count, weights)
    assert sum(found) == count
    assert all(abs(share - count * weight / sum(weights)) < 1 for share, weight in zip(found, weights, strict=True))


@settings(max_examples=300)
@given(st.data())
def test_damaged_sketches_are_refused_or_harmless(data: st.DataObject) -> None:
    body = bytearray(sketch(vectors(50, 1), torch.arange(50) % 3, FORM).to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = Sketch.from_bytes(FORM, bytes(body))
    except AlignmentError:
        return
    assert bool(torch.isfinite(read.mean).all() and torch.isfinite(read.directions).all())
    assert bool(torch.isfinite(log_density([read], vectors(3, 2))).all())
    assert bool(torch.isfinite(draw([read], 5, 0)).all())


def test_inputs_that_cannot_be_sketched_are_refused() -> None:
    with pytest.raises(AlignmentError, match=r"a sketch describes real inputs; these are int64 \[3, 6\]"):
        sketch(torch.zeros(3, 6, dtype=torch.long), torch.zeros(3, dtype=torch.long), FORM)
    with pytest.raises(AlignmentError, match=r"these are float32 \[0, 6\]"):
        sketch(torch.zeros(0, 6), torch.zeros(0, dtype=torch.long), FORM)
    with pytest.raises(AlignmentError, match="the sketch has 3 bytes, not 54"):
        Sketch.from_bytes(FORM, b"abc")


def test_one_client_with_equal_inputs() -> None:
    result = sketch(torch.ones(4, 6), torch.zeros(4, dtype=torch.long), FORM)
    assert draw([result], 3, 0).tolist() == [[1.0] * 6] * 3
    assert bool(torch.isfinite(log_density([result], torch.zeros(2, 6))).all())


def test_clients_count_on_inputs_that_resemble_their_own() -> None:
    """Two clients with one class each and distant inputs: on each input only the client with similar inputs counts."""
    left = sketch(vectors(200, 1) - 20, torch.zeros(200, dtype=torch.long), FORM)
    right = sketch(vectors(200, 2) + 20, torch.ones(200, dtype=torch.long), FORM)
    inputs = torch.cat([vectors(5, 3) - 20, vectors(5, 4) + 20])
    sure_of_0 = torch.tensor([[9.0, 0.0, 0.0]]).expand(10, 3)
    sure_of_1 = torch.tensor([[0.0, 9.0, 0.0]]).expand(10, 3)
    logits = consult([sure_of_0, sure_of_1], [left, right], inputs)
    assert logits.argmax(1).tolist() == [0] * 5 + [1] * 5
    torch.testing.assert_close(logits.mean(1), torch.zeros(10), atol=1e-5, rtol=0)


def test_class_weights_by_hand() -> None:
    """With equal inputs, a client's weight for each class is its share of the examples of that class."""
    inputs = vectors(100, 1)
    one = sketch(inputs, torch.tensor([0] * 75 + [1] * 25), FORM)
    other = sketch(inputs, torch.tensor([0] * 25 + [1] * 75), FORM)
    outputs = [torch.tensor([[0.6, 0.3, 0.1]]).log(), torch.tensor([[0.2, 0.7, 0.1]]).log()]
    logits = consult(outputs, [one, other], inputs[:1])
    mixed = torch.tensor([0.75 * 0.6 + 0.25 * 0.2, 0.25 * 0.3 + 0.75 * 0.7, 0.0])
    expected = torch.log(mixed / mixed.sum() + 1e-3)
    torch.testing.assert_close(logits[0], expected - expected.mean())
    with pytest.raises(AlignmentError, match="expected one"):
        consult(outputs, [one], inputs[:1])


@pytest.mark.parametrize("shape", [(5,), (3, 50), (2, 12, 9), (1, 6, 5, 7)])
def test_noise_has_unit_variance_and_is_smooth(shape: tuple[int, ...]) -> None:
    inputs = noise(shape, 4000, seed=1)
    assert inputs.shape == (4000, *shape)
    torch.testing.assert_close(inputs.var(0), torch.ones(shape), atol=0.15, rtol=0)
    assert torch.equal(inputs, noise(shape, 4000, seed=1))
    if len(shape) > 1:
        together = (inputs[..., 1:] * inputs[..., :-1]).mean(0)
        assert float(together.mean()) > 0.5


def test_tokens_are_of_the_vocabulary() -> None:
    drawn = tokens(7, 5, 100, seed=1)
    assert drawn.shape == (100, 7)
    assert sorted(drawn.unique().tolist()) == [0, 1, 2, 3, 4]


def test_inputs_of_many_values_are_sketched_from_their_examples() -> None:
    """3 x 48 x 48 at half the resolution are 1,728 values, more than a covariance matrix of the values may have."""
    form = SketchForm((3, 48, 48), 2, rank=3)
    draws = torch.Generator().manual_seed(6)
    patterns = form.restore(torch.randn(2, form.values, generator=draws))
    inputs = (torch.randn(300, 2, generator=draws) * torch.tensor([3.0, 1.0])) @ patterns.flatten(1)
    result = sketch(inputs.view(300, 3, 48, 48), torch.zeros(300, dtype=torch.long), form)
    reduced = form.reduce(inputs.view(300, 3, 48, 48))
    variance = float((reduced - reduced.mean(0)).square().sum() / 300)
    assert float(result.directions.square().sum()) == pytest.approx(variance, rel=0.02)
    assert float(result.directions[2].norm()) < 0.02 * float(result.directions[0].norm())
