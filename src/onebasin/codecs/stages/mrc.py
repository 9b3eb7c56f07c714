"""A stage that sends which of many masks it is, of those that both sides draw alike.

Masks are drawn from the chances of the model that both sides hold, by a counter-based generator (Philox4x64-10, four
draws of 16 bits in a word; Salmon et al.: Parallel Random Numbers: As Easy as 1, 2, 3. SC 2011): the key is the seed of
the message, the counter is the candidate's place and the stretch's number. So the receiver draws the one candidate that
it is told of, and no other.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.mask_coding import chances
from onebasin.codecs.stage import Decode, Encode, MaskStage
from onebasin.codecs.value_block import Flags, ValueBlock
from onebasin.core.seeds import derive
from onebasin.wire.entropy import Probabilities, SymbolReader, SymbolWriter
from onebasin.wire.error import WireError

Thresholds = np.ndarray[Any, np.dtype[np.uint16]]

_SHORTEST, _LENGTHS = 4, 9
"""A stretch has 2^4 to 2^12 values."""
_STEPS = 1 << 16
_DRAWS = 16
"""How many 16-bit draws one count of the generator gives."""


class RandomCoding(MaskStage):
    """Masks from the chances that scores stand for, told as one of 2^bits candidates a stretch: minimal random coding.

    Candidates are drawn from the chances that both sides hold; one is taken with a chance in proportion to how much
    likelier the sender's own chances make it. A stretch of values is as long as its Kullback-Leibler divergence
    permits: at most `divergence` bits, if 16 values do; its length is a power of two, and is told.

    Havasi, Peharz, Hernandez-Lobato: Minimal Random Code Learning. ICLR 2019; Isik et al.: Adaptive
    Compression in Federated Learning via Side Information (KLMS). AISTATS 2024 (arXiv 2306.12625).
    """

    name: ClassVar[str] = "mrc"
    mask_forms: ClassVar[tuple[str, ...]] = ("probability",)
    main: ClassVar[str | None] = "bits"

    bits: Annotated[int, Field(ge=1, le=12)] = 8
    divergence: Annotated[float, Field(gt=0)] = 5.0

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        known = _known(block, context)
        limits = _thresholds(known)
        goal = values if context.known_model is None else values + context.known_model
        prior, wanted = limits / _STEPS, np.clip(chances(goal), 1e-9, 1 - 1e-9)
        lengths = _stretches(_divergence(wanted, prior), self.divergence)
        out.count(len(lengths), _most(block.numel))
        out.symbols(lengths, _LENGTHS)
        gain = (np.log(wanted) - np.log1p(-wanted)) - (np.log(prior) - np.log1p(-prior))
        choice = context.generator("mrc choice")
        seed, mask = self._seed(context), np.zeros(block.numel, dtype=np.bool_)
        taken = np.zeros(len(lengths), dtype=np.int32)
        for number, stretch in enumerate(_slices(lengths, block.numel)):
            drawn = _candidates(seed, number, 0, 1 << self.bits, limits[stretch])
            noise = torch.rand(1 << self.bits, generator=choice, dtype=torch.float64).numpy()
            gumbel = -np.log(-np.log(np.clip(noise, 1e-300, 1 - 1e-16)))
            taken[number] = np.argmax(drawn @ gain[stretch] + gumbel)
            mask[stretch] = drawn[taken[number]]
        out.integers(taken, 1 << self.bits)
        return torch.from_numpy(mask).float()

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        limits = _thresholds(_known(block, context))
        lengths = source.symbols(source.count(_most(block.numel)), _LENGTHS)
        stretches = _slices(lengths, block.numel)
        seed, mask = self._seed(context), np.zeros(block.numel, dtype=np.bool_)
        for number, taken in enumerate(source.integers(len(stretches), 1 << self.bits).tolist()):
            mask[stretches[number]] = _candidates(seed, number, taken, 1, limits[stretches[number]])[0]
        return torch.from_numpy(mask).float()

    def _seed(self, context: CodingContext) -> int:
        return derive(context.run, "codec", self.name, context.round, context.sender)


def _known(block: ValueBlock, context: CodingContext) -> Probabilities:
    """The chances that both sides hold; where there is no model, all are open."""
    return np.full(block.numel, 0.5) if context.known_model is None else chances(context.known_model)


def _thresholds(chance: Probabilities) -> Thresholds:
    """A chance as the number of 16-bit draws that are below it; never none, never all."""
    return np.clip(np.rint(chance * _STEPS), 1, _STEPS - 1).astype(np.uint16)


def _candidates(seed: int, stretch: int, first: int, count: int, limits: Thresholds) -> Flags:
    """So many consecutive candidates of a stretch, one a row."""
    steps = -(-len(limits) // _DRAWS)
    source = np.random.Philox(key=[seed, 0], counter=[first * steps, stretch, 0, 0])
    words = source.random_raw(count * steps * 4).astype("<u8")
    drawn: Flags = words.view("<u2").reshape(count, -1)[:, : len(limits)] < limits
    return drawn


def _divergence(wanted: Probabilities, prior: Probabilities) -> Probabilities:
    """Kullback-Leibler divergence of each value's wanted chance from its known one, in bits."""
    bits: Probabilities = wanted * np.log2(wanted / prior) + (1 - wanted) * np.log2((1 - wanted) / (1 - prior))
    return bits


def _stretches(divergence: Probabilities, most: float) -> np.ndarray[Any, np.dtype[np.int32]]:
    """How long stretches are that each diverge by at most so many bits, or are as short as can be."""
    total = np.concatenate([[0.0], np.cumsum(np.maximum(divergence, 0.0))])
    lengths, at, end = [], 0, len(divergence)
    while at < end:
        reach = int(np.searchsorted(total, total[at] + most, side="right")) - 1 - at
        length = _LENGTHS - 1 if at + reach >= end else max(reach.bit_length() - 1 - _SHORTEST, 0)
        lengths.append(min(length, _LENGTHS - 1))
        at += 1 << (lengths[-1] + _SHORTEST)
    return np.array(lengths, dtype=np.int32)


def _most(size: int) -> int:
    """How many stretches so many values can have."""
    return -(-size // (1 << _SHORTEST))


def _slices(lengths: np.ndarray[Any, np.dtype[np.int32]], size: int) -> list[slice]:
    """Where stretches lie among so many values; `WireError` where they do not cover them just so."""
    ends = np.cumsum(1 << (lengths.astype(np.int64) + _SHORTEST)).tolist()
    begins = [0, *ends[:-1]] if ends else []
    if (ends[-1] if ends else 0) < size or (begins and begins[-1] >= size):
        raise WireError(f"{len(ends)} stretches end at {ends[-1] if ends else 0}; there are {size} values")
    return [slice(begin, min(end, size)) for begin, end in zip(begins, ends, strict=True)]
