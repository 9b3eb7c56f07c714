"""A mask over noise that sender and receiver both draw from a seed, so that only the mask is sent.

The noise comes from a counter-based generator (Philox4x64-10; Salmon et al.: Parallel Random Numbers: As Easy as 1, 2,
3. SC 2011). Its key is a seed that both sides derive from the run, the round and the sender, so no seed is sent. The
upper 23 of 32 bits give one value: an odd multiple of 2^-23 between -1 and 1, never 0, the same on every machine.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.mask_coding import read_mask, write_mask
from onebasin.codecs.stage import DecodeNext, EncodeNext, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.core.seeds import derive
from onebasin.wire.entropy import SymbolReader, SymbolWriter

_NOISE_BITS = 23
"""The bits of a draw that are used: as many as the mantissa of a float32 has."""


class MaskedNoise(FinalStage):
    """Sends the values as a mask over seeded noise of some `magnitude`, in at most 1 bit per value.

    mask: with `binary` each value's noise is kept or dropped, with `signed` it is kept or negated. The mask is sampled
    such that the decoded value is right on average; values beyond the range of their noise are clipped to it.
    noise: `uniform` between -magnitude and magnitude, or only its `sign`, times the magnitude.

    Li et al.: Masked Random Noise for Communication-Efficient Federated Learning (FedMRN). ACM Multimedia 2024 (arXiv
    2408.03220), stochastic masking.
    """

    name: ClassVar[str] = "masked-noise"
    masks_noise: ClassVar[bool] = True
    main: ClassVar[str | None] = "magnitude"

    magnitude: Annotated[float, Field(ge=1e-9, le=1e9)] = 0.01
    mask: Literal["binary", "signed"] = "binary"
    noise: Literal["uniform", "sign"] = "uniform"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        noise = self.draw(block.numel, context)
        kept = stochastic_mask(values, noise, self.signed, context.generator(self.name))
        write_mask(kept.numpy(), block, out)
        return masked(noise, kept, self.signed)

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        kept = torch.from_numpy(read_mask(block, source))
        return masked(self.draw(block.numel, context), kept, self.signed)

    @property
    def signed(self) -> bool:
        """Return whether noise that is not kept is negated, rather than dropped."""
        return self.mask == "signed"

    def draw(self, count: int, context: CodingContext) -> Tensor:
        """Return the noise [count] of a message, float32; both sides draw the same bits."""
        key = derive(context.run, "codec", self.name, context.round, context.sender)
        words = np.random.Philox(key=[key, 0]).random_raw(-(-count // 2)).astype("<u8").view("<u4")[:count]
        odd = 2 * (words >> (32 - _NOISE_BITS)).astype(np.int64) + 1 - (1 << _NOISE_BITS)
        values = odd.astype(np.float32) / np.float32(1 << _NOISE_BITS) if self.noise == "uniform" else np.sign(odd)
        return torch.from_numpy(values.astype(np.float32) * np.float32(self.magnitude))


def stochastic_mask(values: Tensor, noise: Tensor, signed: bool, draws: torch.Generator) -> Tensor:
    """Return which noise is kept, booleans, sampled such that `masked` is `clipped` on average: stochastic masking.

    values, noise: of one shape; no noise is 0. draws: the generator of the samples.
    """
    share = values / noise
    probability = (share + 1) / 2 if signed else share
    return torch.rand(probability.shape, generator=draws) < probability


def masked(noise: Tensor, kept: Tensor, signed: bool) -> Tensor:
    """Return the noise where `kept` is true; elsewhere 0, or the negated noise if `signed`."""
    return torch.where(kept, noise, -noise if signed else 0.0)


def clipped(values: Tensor, noise: Tensor, signed: bool) -> Tensor:
    """Return the values clipped to the means that a mask can give: from 0, or from -noise if `signed`, to noise."""
    return (values / noise).clamp(-1.0 if signed else 0.0, 1.0) * noise
