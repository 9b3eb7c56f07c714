"""Minimal random coding: both sides draw the same candidates; masks take few bits and follow the probabilities."""

import numpy as np
import pytest
import torch

from onebasin.codecs.chain import Chain
from onebasin.codecs.context import CodingContext
from onebasin.codecs.stages.mrc import _candidates, _length_codes, _segments, _thresholds
from onebasin.core.layout import Layout
from onebasin.wire.entropy import SymbolWriter
from onebasin.wire.error import WireError


def test_candidates_are_the_same_in_every_process() -> None:
    thresholds = np.full(20, 1 << 15, dtype=np.uint16)
    candidates = _candidates(7, 3, 0, 4, thresholds)
    as_text = ["".join("01"[flag] for flag in row.astype(int)) for row in candidates]
    assert as_text == ["10111101001000011111", "11000010111100001010", "01001001010111010110", "00011101110101000010"]
    for number in range(4):  # each candidate can be drawn alone
        assert (_candidates(7, 3, number, 1, thresholds)[0] == candidates[number]).all()
    assert (_candidates(7, 4, 0, 4, thresholds) != candidates).any()
    assert (_candidates(8, 3, 0, 4, thresholds) != candidates).any()


def test_candidates_follow_the_known_probabilities() -> None:
    thresholds = _thresholds(np.array([0.0, 0.1, 0.5, 0.9, 1.0]))
    assert thresholds.tolist() == [1, 6554, 32768, 58982, 65535]
    means = _candidates(0, 0, 0, 20000, thresholds).mean(axis=0)
    assert means == pytest.approx([0, 0.1, 0.5, 0.9, 1], abs=0.01)


def test_segments_are_as_long_as_their_divergence_permits() -> None:
    length_codes = _length_codes(np.array([0.1] * 64 + [1.0] * 32 + [0.0] * 5000), 5.0)
    # 32 * 0.1 bits are at most 5 and 64 * 0.1 are more; 16 * 1.0 are more too, but no segment is shorter
    assert (1 << (length_codes[:4] + 4)).tolist() == [32, 32, 16, 16]
    assert (1 << (length_codes[4:] + 4)).tolist() == [4096, 4096]
    assert _segments(length_codes, 5096)[-1] == slice(4192, 5096)
    assert _length_codes(np.zeros(0), 5.0).tolist() == _segments(_length_codes(np.zeros(0), 5.0), 0) == []


def test_a_message_without_a_change_takes_a_few_bytes() -> None:
    known_model = torch.randn(40960, generator=torch.Generator().manual_seed(0))
    chain = Chain("mrc 8", Layout.of({"w": known_model}))
    body, received = chain.send({"w": torch.zeros_like(known_model)}, CodingContext(known_model=known_model))
    assert len(body) <= 4 + 6 + 10  # the head; the number and lengths of the segments; a byte for each of ten
    assert received["w"].mean().item() == pytest.approx(torch.sigmoid(known_model).mean().item(), abs=0.01)


def test_masks_follow_the_senders_probabilities_on_average() -> None:
    draws = torch.Generator().manual_seed(1)
    known_model, update = torch.randn(6000, generator=draws), 0.5 * torch.randn(6000, generator=draws)
    known, target = torch.sigmoid(known_model), torch.sigmoid(known_model + update)
    chain = Chain("mrc 10 divergence=3", Layout.of({"w": update}))
    sent = [chain.send({"w": update}, CodingContext(1, round, 2, known_model=known_model)) for round in range(40)]
    mean = sum(received["w"] for _, received in sent) / len(sent)
    change = target - known
    slope = ((mean - known) * change).sum() / change.square().sum()
    assert slope.item() == pytest.approx(1.0, abs=0.05)
    assert 8 * sum(len(body) for body, _ in sent) / len(sent) / 6000 < 0.2


def test_segments_that_do_not_cover_the_values_are_refused() -> None:
    chain = Chain("mrc 8", Layout.of({"w": torch.zeros(100)}))
    head = chain.body({"w": torch.zeros(100)}, CodingContext())[:4]
    for length_codes in ([0], [0] * 6, [8, 0], []):
        out = SymbolWriter()
        out.count(len(length_codes), 7)
        out.symbols(np.array(length_codes, dtype=np.int32), 9)
        with pytest.raises(WireError, match="stretches end at"):
            chain.receive(head + out.finish(), CodingContext())
