"""Minimal random coding: a mask is sent as the index of one of several masks that sender and receiver both draw.

The candidate masks are drawn from the probabilities of the known model by a counter-based generator (Philox4x64-10,
four 16-bit draws per 64-bit word; Salmon et al.: Parallel Random Numbers: As Easy as 1, 2, 3. SC 2011). Its key is a
seed that both sides derive from the run, the round and the sender; its counter is made of the candidate's index and the
segment's number. So the receiver draws only the candidate that the index names.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.mask_coding import keep_probabilities
from onebasin.codecs.stage import DecodeNext, EncodeNext, MaskStage
from onebasin.codecs.value_block import Flags, ValueBlock
from onebasin.core.seeds import derive
from onebasin.wire.entropy import Probabilities, SymbolReader, SymbolWriter
from onebasin.wire.error import WireError

Thresholds = np.ndarray[Any, np.dtype[np.uint16]]
LengthCodes = np.ndarray[Any, np.dtype[np.int32]]

_MIN_LOG2_LENGTH, _LENGTH_CODES = 4, 9
"""A segment has 2^4 to 2^12 values. Its length is coded as log2(length) - 4, one of 9 symbols."""
_PROBABILITY_STEPS = 1 << 16
_DRAWS_PER_STEP = 16
"""The number of 16-bit draws for each step of the generator's counter."""


class RandomCoding(MaskStage):
    """Sends, for each segment of scores, the index of one of 2^`bits` masks that both sides draw from a seed.

    Candidates are drawn from the probabilities of the known model. The sender samples one of them, with a probability
    proportional to its likelihood under the sender's own probabilities over that under the known ones. A segment is as
    long as its Kullback-Leibler divergence permits: at most `divergence` bits, or 16 values. Its length is a power of
    two, and is sent.

    Havasi, Peharz, Hernandez-Lobato: Minimal Random Code Learning. ICLR 2019; Isik et al.: Adaptive
    Compression in Federated Learning via Side Information (KLMS). AISTATS 2024 (arXiv 2306.12625).
    """

    name: ClassVar[str] = "mrc"
    mask_forms: ClassVar[tuple[str, ...]] = ("probability",)
    main: ClassVar[str | None] = "bits"

    bits: Annotated[int, Field(ge=1, le=12)] = 8
    divergence: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.0

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        known = _known_probabilities(block, context)
        thresholds = _thresholds(known)
        scores = values if context.known_model is None else values + context.known_model
        prior, target = thresholds / _PROBABILITY_STEPS, np.clip(keep_probabilities(scores), 1e-9, 1 - 1e-9)
        length_codes = _length_codes(_divergence(target, prior), self.divergence)
        out.count(len(length_codes), _max_segments(block.numel))
        out.symbols(length_codes, _LENGTH_CODES)
        log_odds_ratio = (np.log(target) - np.log1p(-target)) - (np.log(prior) - np.log1p(-prior))
        generator = context.generator("mrc choice")
        seed, mask = self._seed(context), np.zeros(block.numel, dtype=np.bool_)
        indices = np.zeros(len(length_codes), dtype=np.int32)
        for number, segment in enumerate(_segments(length_codes, block.numel)):
            candidates = _candidates(seed, number, 0, 1 << self.bits, thresholds[segment])
            uniform = torch.rand(1 << self.bits, generator=generator, dtype=torch.float64).numpy()
            gumbel = -np.log(-np.log(np.clip(uniform, 1e-300, 1 - 1e-16)))
            indices[number] = np.argmax(candidates @ log_odds_ratio[segment] + gumbel)
            mask[segment] = candidates[indices[number]]
        out.integers(indices, 1 << self.bits)
        return torch.from_numpy(mask).float()

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        thresholds = _thresholds(_known_probabilities(block, context))
        length_codes = source.symbols(source.count(_max_segments(block.numel)), _LENGTH_CODES)
        segments = _segments(length_codes, block.numel)
        seed, mask = self._seed(context), np.zeros(block.numel, dtype=np.bool_)
        for number, index in enumerate(source.integers(len(segments), 1 << self.bits).tolist()):
            mask[segments[number]] = _candidates(seed, number, index, 1, thresholds[segments[number]])[0]
        return torch.from_numpy(mask).float()

    def _seed(self, context: CodingContext) -> int:
        return derive(context.run, "codec", self.name, context.round, context.sender)


def _known_probabilities(block: ValueBlock, context: CodingContext) -> Probabilities:
    """Return the probabilities [n] of the known model; 1/2 for all values if there is none."""
    return np.full(block.numel, 0.5) if context.known_model is None else keep_probabilities(context.known_model)


def _thresholds(probabilities: Probabilities) -> Thresholds:
    """Return how many of the 2^16 values of a draw give a one, for each probability [n]; at least 1, never all."""
    return np.clip(np.rint(probabilities * _PROBABILITY_STEPS), 1, _PROBABILITY_STEPS - 1).astype(np.uint16)


def _candidates(seed: int, segment: int, first: int, count: int, thresholds: Thresholds) -> Flags:
    """Return the candidates `first` to `first + count - 1` of a segment, [count, length of the segment]."""
    steps = -(-len(thresholds) // _DRAWS_PER_STEP)
    source = np.random.Philox(key=[seed, 0], counter=[first * steps, segment, 0, 0])
    words = source.random_raw(count * steps * 4).astype("<u8")
    candidates: Flags = words.view("<u2").reshape(count, -1)[:, : len(thresholds)] < thresholds
    return candidates


def _divergence(target: Probabilities, prior: Probabilities) -> Probabilities:
    """Return the Kullback-Leibler divergence of each target probability [n] from its prior, in bits."""
    bits: Probabilities = target * np.log2(target / prior) + (1 - target) * np.log2((1 - target) / (1 - prior))
    return bits


def _length_codes(divergence: Probabilities, limit: float) -> LengthCodes:
    """Return the coded lengths of segments: each the longest with at most `limit` bits of divergence, or the shortest.

    The last segment may be longer than the remaining values. divergence: [n], in bits.
    """
    total = np.concatenate([[0.0], np.cumsum(np.maximum(divergence, 0.0))])
    length_codes, begin, end = [], 0, len(divergence)
    while begin < end:
        fitting = int(np.searchsorted(total, total[begin] + limit, side="right")) - 1 - begin
        reaches_end = begin + fitting >= end
        code = _LENGTH_CODES - 1 if reaches_end else max(fitting.bit_length() - 1 - _MIN_LOG2_LENGTH, 0)
        length_codes.append(min(code, _LENGTH_CODES - 1))
        begin += 1 << (length_codes[-1] + _MIN_LOG2_LENGTH)
    return np.array(length_codes, dtype=np.int32)


def _max_segments(size: int) -> int:
    """Return the largest number of segments that `size` values can have."""
    return -(-size // (1 << _MIN_LOG2_LENGTH))


def _segments(length_codes: LengthCodes, size: int) -> list[slice]:
    """Return the ranges of the segments of `size` values.

    Errors: `WireError` if they do not cover all values, or one begins after the last value.
    """
    ends = np.cumsum(1 << (length_codes.astype(np.int64) + _MIN_LOG2_LENGTH)).tolist()
    begins = [0, *ends[:-1]] if ends else []
    if (ends[-1] if ends else 0) < size or (begins and begins[-1] >= size):
        raise WireError(f"{len(ends)} stretches end at {ends[-1] if ends else 0}; there are {size} values")
    return [slice(begin, min(end, size)) for begin, end in zip(begins, ends, strict=True)]
