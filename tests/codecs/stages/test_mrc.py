"""Minimal random coding: candidates that anybody can draw again, told in few bits, true to the chances on average."""

import numpy as np
import pytest
import torch

from onebasin.codecs.chain import Chain
from onebasin.codecs.context import CodingContext
from onebasin.codecs.stages.mrc import _candidates, _slices, _stretches, _thresholds
from onebasin.core.layout import Layout
from onebasin.wire.entropy import SymbolWriter
from onebasin.wire.error import WireError


def test_candidates_are_the_same_everywhere() -> None:
    half = np.full(20, 1 << 15, dtype=np.uint16)
    drawn = _candidates(7, 3, 0, 4, half)
    as_text = ["".join("01"[flag] for flag in row.astype(int)) for row in drawn]
    assert as_text == ["10111101001000011111", "11000010111100001010", "01001001010111010110", "00011101110101000010"]
    for number in range(4):  # each can be drawn by itself
        assert (_candidates(7, 3, number, 1, half)[0] == drawn[number]).all()
    assert (_candidates(7, 4, 0, 4, half) != drawn).any()
    assert (_candidates(8, 3, 0, 4, half) != drawn).any()


def test_candidates_have_the_chances_that_are_known() -> None:
    limits = _thresholds(np.array([0.0, 0.1, 0.5, 0.9, 1.0]))
    assert limits.tolist() == [1, 6554, 32768, 58982, 65535]
    means = _candidates(0, 0, 0, 20000, limits).mean(axis=0)
    assert means == pytest.approx([0, 0.1, 0.5, 0.9, 1], abs=0.01)


def test_stretches_are_as_long_as_their_divergence_permits() -> None:
    lengths = _stretches(np.array([0.1] * 64 + [1.0] * 32 + [0.0] * 5000), 5.0)
    # 32 * 0.1 is within 5 bits and 64 * 0.1 is not; 16 * 1.0 is too much, but no stretch is shorter
    assert (1 << (lengths[:4] + 4)).tolist() == [32, 32, 16, 16]
    assert (1 << (lengths[4:] + 4)).tolist() == [4096, 4096]
    assert _slices(lengths, 5096)[-1] == slice(4192, 5096)
    assert _stretches(np.zeros(0), 5.0).tolist() == _slices(_stretches(np.zeros(0), 5.0), 0) == []


def test_where_nothing_was_learned_a_message_is_a_few_bytes() -> None:
    reference = torch.randn(40960, generator=torch.Generator().manual_seed(0))
    chain = Chain("mrc 8", Layout.of({"w": reference}))
    body, received = chain.send({"w": torch.zeros_like(reference)}, CodingContext(known_model=reference))
    assert len(body) <= 4 + 6 + 10  # the head; how many stretches of which lengths; a byte for each of ten
    assert received["w"].mean().item() == pytest.approx(torch.sigmoid(reference).mean().item(), abs=0.01)


def test_masks_are_true_to_the_senders_chances_on_average() -> None:
    draws = torch.Generator().manual_seed(1)
    reference, update = torch.randn(6000, generator=draws), 0.5 * torch.randn(6000, generator=draws)
    known, wanted = torch.sigmoid(reference), torch.sigmoid(reference + update)
    chain = Chain("mrc 10 divergence=3", Layout.of({"w": update}))
    sent = [chain.send({"w": update}, CodingContext(1, round, 2, known_model=reference)) for round in range(40)]
    mean = sum(received["w"] for _, received in sent) / len(sent)
    change = wanted - known
    slope = ((mean - known) * change).sum() / change.square().sum()
    assert slope.item() == pytest.approx(1.0, abs=0.05)
    assert 8 * sum(len(body) for body, _ in sent) / len(sent) / 6000 < 0.2


def test_stretches_that_do_not_cover_the_values_are_refused() -> None:
    chain = Chain("mrc 8", Layout.of({"w": torch.zeros(100)}))
    head = chain.body({"w": torch.zeros(100)}, CodingContext())[:4]
    for lengths in ([0], [0] * 6, [8, 0], []):
        out = SymbolWriter()
        out.count(len(lengths), 7)
        out.symbols(np.array(lengths, dtype=np.int32), 9)
        with pytest.raises(WireError, match="stretches end at"):
            chain.receive(head + out.finish(), CodingContext())
