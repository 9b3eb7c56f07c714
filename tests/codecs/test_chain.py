"""Every chain: the receiver decodes exactly the values that the sender expects, and refuses bodies of other chains."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onebasin.codecs.chain import STAGES, Chain, parse_chain
from onebasin.codecs.codec import NotFinite
from onebasin.codecs.context import CodingContext
from onebasin.core.layout import Layout, Tensors
from onebasin.wire.entropy import flags_by_probability_cost
from onebasin.wire.error import WireError

CHAINS = [
    "fp32",
    "fp16",
    "mask",
    "mrc 4",
    "mrc 8 divergence=2",
    "masked-noise",
    "masked-noise 100 mask=signed",
    "masked-noise 1 noise=sign",
    "error-feedback | random-k 0.3 shared=true | masked-noise 1000",
    "sign",
    "sign tensor",
    "sign one",
    "ternary",
    "uniform 2",
    "uniform 8",
    "uniform 4 rounding=stochastic",
    "qsgd",
    "eden 1",
    "hadamard | eden 2",
    "top-k 0.3 per=tensor | lloyd 2",
    "hadamard | sign",
    "top-k 0.3 | sign",
    "top-k 0.3 per=tensor | uniform 3",
    "random-k 0.3 | fp16",
    "random-k 0.3 shared=true | fp32",
    "fragment 3 | ternary 1.2",
    "fragment 2 by=tensor | top-k 0.5 | sign",
    "low-rank 1 | fp32",
    "low-rank 2 steps=3 | uniform 8",
    "small 5 | top-k 0.2 | sign",
    "small 5 coded=fp32 | hadamard | eden 1",
    "error-feedback | top-k 0.1 | sign",
    "momentum-correction | error-feedback 0.9 | small 4 | top-k 0.5 | hadamard | uniform 3",
]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)
NUMBERS = st.floats(-60000, 60000, width=32) | st.just(0.0)
TENSORS = st.lists(hnp.arrays("float32", SHAPES, elements=NUMBERS), max_size=4).map(
    lambda arrays: {f"t{n}": torch.from_numpy(array) for n, array in enumerate(arrays)}
)


def same(a: Tensors, b: Tensors) -> bool:
    return list(a) == list(b) and all(torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a)


@settings(max_examples=300, deadline=None)
@given(TENSORS, st.sampled_from(CHAINS), st.integers(1, 5), st.integers(0, 3))
def test_the_receiver_decodes_the_values_that_the_sender_expects(
    tensors: Tensors, text: str, round: int, client: int
) -> None:
    chain = Chain(text, Layout.of(tensors))
    count = sum(t.numel() for t in tensors.values())
    history = (np.arange(count) % 3).astype(np.uint8) if client else None
    body, received = chain.send(tensors, CodingContext(7, round, client), history)
    assert len(body) <= chain.most_bytes
    assert same(chain.receive(body, CodingContext(7, round, client), history), received)


@pytest.mark.parametrize("text", CHAINS)
def test_a_damaged_body_raises_wire_error_or_decodes_to_finite_tensors(text: str) -> None:
    tensors = {"a": torch.randn(7, 9), "b": torch.randn(4)}
    chain = Chain(text, Layout.of(tensors))
    body, _ = chain.send(tensors, CodingContext())
    draws = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(body)
        if draws.random() < 0.3:
            damaged = damaged[: draws.integers(len(body))]
        else:
            damaged[draws.integers(len(body))] ^= 1 << draws.integers(8)
        try:
            decoded = chain.receive(bytes(damaged), CodingContext())
        except WireError:
            continue
        assert all(bool(torch.isfinite(t).all()) and t.shape == tensors[n].shape for n, t in decoded.items())


def test_random_k_draws_positions_for_each_sender_unless_they_are_shared() -> None:
    tensors = {"a": torch.randn(40)}
    chain = Chain("random-k 0.2 | fp32", Layout.of(tensors))
    assert not torch.equal(
        chain.send(tensors, CodingContext(1, 1, 0))[1]["a"] != 0,
        chain.send(tensors, CodingContext(1, 1, 1))[1]["a"] != 0,
    )
    shared = Chain("random-k 0.2 shared=true | fp32", Layout.of(tensors))
    first, second = (shared.send(tensors, CodingContext(1, 1, sender))[1]["a"] for sender in (0, 1))
    assert torch.equal(first, second)


def test_top_k_and_sign_computed_by_hand() -> None:
    """STC's ternary values: the two largest of eight, at their mean magnitude."""
    tensors = {"w": torch.tensor([0.1, -5.0, 0.2, 3.0, 0.0, -0.3, 0.4, 0.1])}
    chain = Chain("top-k 0.25 | sign", Layout.of(tensors))
    body, received = chain.send(tensors, CodingContext())
    assert received["w"].tolist() == [0.0, -4.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0]
    # 2 bits for the grouping, log2(5) + 1 for the count 2, 2 positions of 3 bits, 32 for the magnitude, 2 signs:
    # 45.3 bits, rounded up to words of 32
    assert len(body) == 4 + 8


def test_ternary_computed_by_hand() -> None:
    tensors = {"w": torch.tensor([0.0, 1.0, -3.0, 4.0])}  # mean magnitude 2: values above 1.4 remain
    received = Chain("ternary", Layout.of(tensors)).send(tensors, CodingContext())[1]
    assert received["w"].tolist() == [0.0, 0.0, -3.5, 3.5]
    received = Chain("ternary 1.6", Layout.of(tensors)).send(tensors, CodingContext())[1]  # values above 3.2
    assert received["w"].tolist() == [0.0, 0.0, 0.0, 4.0]


def test_error_feedback_sends_the_residual_in_the_next_message() -> None:
    chain = Chain("error-feedback | top-k 0.5 | fp32", Layout.of({"w": torch.zeros(2)}))
    first = CodingContext(round=1)
    assert chain.send({"w": torch.tensor([3.0, 2.0])}, first)[1]["w"].tolist() == [3.0, 0.0]
    assert first.next_residuals["error-feedback"].tolist() == [0.0, 2.0]
    second = CodingContext(round=2, residuals=first.next_residuals)
    assert chain.send({"w": torch.tensor([1.0, 1.0])}, second)[1]["w"].tolist() == [0.0, 3.0]
    assert second.next_residuals["error-feedback"].tolist() == [1.0, 0.0]


def test_momentum_is_reset_where_values_were_sent() -> None:
    chain = Chain("momentum-correction 0.5 | top-k 0.5 | fp32", Layout.of({"w": torch.zeros(2)}))
    first = CodingContext()
    chain.send({"w": torch.tensor([3.0, 2.0])}, first)
    assert first.next_residuals["momentum-correction"].tolist() == [0.0, 2.0]
    second = CodingContext(residuals=first.next_residuals)
    assert chain.send({"w": torch.tensor([1.0, 1.0])}, second)[1]["w"].tolist() == [0.0, 2.0]


def test_fragments_are_sent_in_turn_and_cover_all_values() -> None:
    tensors = {"a": torch.ones(5), "b": torch.ones(2, 3), "c": torch.ones(2)}
    for text in ("fragment 3 | fp32", "fragment 3 by=tensor | fp32"):
        chain = Chain(text, Layout.of(tensors))
        sent = [chain.send(tensors, CodingContext(round=round))[1] for round in (1, 2, 3)]
        assert all(sum(received[name] for received in sent).eq(1).all() for name in tensors)
        assert same(chain.send(tensors, CodingContext(round=4))[1], sent[0])


def test_low_rank_is_exact_for_matrices_of_low_rank() -> None:
    matrix = torch.randn(20, 2) @ torch.randn(2, 30)
    body, received = Chain("low-rank 2 | fp32", Layout.of({"m": matrix})).send({"m": matrix}, CodingContext())
    torch.testing.assert_close(received["m"], matrix, atol=1e-4, rtol=1e-4)
    assert len(body) == 4 + 4 * 2 * (20 + 30) + 4  # the stream ends with a word


def test_low_rank_with_many_steps_is_the_best_approximation() -> None:
    """Eckart and Young: the error's Frobenius norm is that of the singular values after the second."""
    matrix = torch.randn(20, 30)
    singular_values = torch.linalg.svdvals(matrix)
    errors = {
        steps: float((matrix - received["m"]).norm())
        for steps in (1, 64)
        for _, received in [
            Chain(f"low-rank 2 steps={steps} | fp32", Layout.of({"m": matrix})).send({"m": matrix}, CodingContext())
        ]
    }
    assert errors[64] == pytest.approx(float(singular_values[2:].norm()), rel=1e-3)
    assert errors[64] < errors[1]


@pytest.mark.parametrize(("bits", "error"), [(1, 0.571), (2, 0.134), (4, 0.0096)])
def test_eden_has_the_published_error(bits: int, error: float) -> None:
    """Squared error over squared norm: pi/2 - 1 for one bit with the unbiased scale (DRIVE, theorem 2)."""
    values = {"v": torch.randn(1 << 14)}
    received = Chain(f"hadamard | eden {bits}", Layout.of(values)).send(values, CodingContext())[1]
    assert float((received["v"] - values["v"]).square().sum() / values["v"].square().sum()) == pytest.approx(
        error, rel=0.06
    )


def test_fitted_levels_are_the_values_if_few_distinct_ones_occur() -> None:
    values = {"v": torch.tensor([3.0, -1.0, 1.0, -3.0, 3.0, 3.0]), "empty": torch.zeros(0)}
    body, received = Chain("lloyd 2", Layout.of(values)).send(values, CodingContext())
    assert same(received, values)
    assert len(body) <= 4 + 4 * 4 + 4


@pytest.mark.parametrize(("bits", "error"), [(1, 0.3634), (2, 0.1175), (3, 0.03454)])
def test_fitted_levels_have_the_published_error(bits: int, error: float) -> None:
    """Mean squared error for normal values of variance 1: Max 1960, table I."""
    values = {"v": torch.randn(1 << 17)}
    received = Chain(f"lloyd {bits}", Layout.of(values)).send(values, CodingContext())[1]
    assert float((received["v"] - values["v"]).square().mean()) == pytest.approx(error, rel=0.03)


@pytest.mark.parametrize("text", ["qsgd 4", "uniform 3 rounding=stochastic"])
def test_stochastic_rounding_is_unbiased(text: str) -> None:
    values = {"v": torch.tensor([1.0, -0.37, 0.11, 0.62])}
    chain = Chain(text, Layout.of(values))
    mean = torch.stack([chain.send(values, CodingContext(round=r))[1]["v"] for r in range(3000)]).mean(0)
    torch.testing.assert_close(mean, values["v"], atol=0.03, rtol=0)


def test_classes_that_predict_the_ones_save_bytes() -> None:
    draws = torch.Generator().manual_seed(0)
    often_large = torch.rand(20_000, generator=draws) < 0.05
    values = torch.randn(20_000, generator=draws) * torch.where(often_large, 1.0, 0.05)
    tensors = {"w": values}
    chain = Chain("top-k 0.03 | sign", Layout.of(tensors))
    without_classes = len(chain.send(tensors, CodingContext())[0])
    history = often_large.numpy().astype(np.uint8)
    body, received = chain.send(tensors, CodingContext(), history)
    assert len(body) < 0.55 * without_classes
    assert same(chain.receive(body, CodingContext(), history), received)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinite_values_are_not_sent(value: float) -> None:
    chain = Chain("top-k 0.5 | sign", Layout.of({"w": torch.zeros(2)}))
    with pytest.raises(NotFinite, match="w has 1 values that are NaN or infinite, of 2"):
        chain.send({"w": torch.tensor([0.0, value])}, CodingContext())


def test_a_body_of_another_chain_or_model_is_refused() -> None:
    tensors = {"w": torch.ones(4)}
    body, _ = Chain("sign", Layout.of(tensors)).send(tensors, CodingContext())
    for other in (Chain("sign tensor", Layout.of(tensors)), Chain("sign", Layout.of({"v": torch.ones(4)}))):
        with pytest.raises(WireError, match="the body is not sign scale="):
            other.receive(body, CodingContext())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("top-q | sign", "unknown stage 'top-q'; there are .*error-feedback, .* and package.module:Name"),
        ("top-k 0.1", "ends with 'top-k'; the last is to be one of .*sign"),
        ("sign | fp32", "nothing can follow 'sign'"),
        ("top-k 0.1 | error-feedback | sign", "comes before stages that drop some"),
        ("top-k 0.1 | top-k 0.1 | sign", "'top-k' is there twice"),
        ("top-k 1.5 | sign", "share='1.5': .* it has share=0.01, per=all"),
        ("top-k 0.1 by=row | sign", "by='row': .*"),
        ("hadamard 3 | sign", "hadamard: '3' is no setting; expected no settings"),
        ("top-k 0.1 share=0.2 | sign", "top-k: share is given twice, as '0.1' and '0.2'"),
        ("mrc divergence=inf", "divergence='inf': .*finite"),
        ("top-k 0.1 | ", "a stage is missing"),
        ("", "a stage is missing"),
    ],
)
def test_texts_that_describe_no_chain_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_chain(text)


def test_every_stage_has_a_docstring_for_the_list_of_codecs() -> None:
    assert all((stage.__doc__ or "").strip() for stage in map(STAGES.find, STAGES.names))


def test_all_settings_are_part_of_the_name() -> None:
    layout = Layout.of({"w": torch.zeros(1)})
    assert Chain("top-k 0.1|sign", layout).name == "top-k share=0.1 per=all | sign scale=all"
    assert Chain("top-k share=0.1 | sign all", layout).name == Chain("top-k 0.1 | sign", layout).name


def test_ten_million_values_take_about_their_entropy() -> None:
    tensors: dict[str, Any] = {"w": torch.randn(10_000_000, generator=torch.Generator().manual_seed(0))}
    chain = Chain("top-k 0.01 | sign", Layout.of(tensors))
    body, received = chain.send(tensors, CodingContext())
    assert same(chain.receive(body, CodingContext()), received)
    entropy = -(0.01 * math.log2(0.01) + 0.99 * math.log2(0.99)) * 1e7 / 8 + 1e5 / 8
    assert len(body) <= 1.015 * entropy + 32


@pytest.mark.parametrize(("probability", "bits"), [(0.5, 1.0), (0.1, 0.469), (0.01, 0.0808)])
def test_masks_take_the_entropy_of_the_probabilities_of_the_known_model(probability: float, bits: float) -> None:
    """Half of the probabilities are p, half 1 - p: without the known model, a mask would take 1 bit per value."""
    known_model = torch.logit(torch.tensor([probability, 1 - probability]).repeat(50_000))
    chain = Chain("mask", Layout.of({"w": known_model}))
    context = CodingContext(1, 2, 3, known_model=known_model)
    body, received = chain.send({"w": torch.zeros_like(known_model)}, context)
    entropy = -sum(p * math.log2(p) for p in (probability, 1 - probability))
    assert entropy == pytest.approx(bits, abs=1e-3)
    likelihood = flags_by_probability_cost(received["w"].numpy() > 0, torch.sigmoid(known_model.double()).numpy())
    assert likelihood / 100_000 == pytest.approx(entropy, rel=0.1)
    assert 8 * len(body) == pytest.approx(likelihood, rel=0.005, abs=8 * 8)
    assert same(chain.receive(body, context), received)
    assert received["w"].unique().tolist() == [0.0, 1.0]
