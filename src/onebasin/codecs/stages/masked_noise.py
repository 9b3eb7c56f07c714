"""A stage that ends a chain in a mask over noise that both sides draw alike, so that the mask is all that travels.

Noise is drawn by a counter-based generator (Philox4x64-10; Salmon et al.: Parallel Random Numbers: As Easy as 1, 2, 3.
SC 2011), whose key is the seed of the message: the run's, the round and the sender, which nobody need send. 32 bits
give one value, by their upper 23: an odd multiple of 2^-23 between -1 and 1, never 0, the same on every machine.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.mask_coding import read_mask, write_mask
from onebasin.codecs.stage import Decode, Encode, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.core.seeds import derive
from onebasin.wire.entropy import SymbolReader, SymbolWriter

_DIGITS = 23
"""So many binary digits has the mantissa of a float, and so many of a draw are used."""


class MaskedNoise(FinalStage):
    """Seeded noise of some `magnitude` and a mask of at most 1 bit a value, drawn such that the mean is right.

    mask: `binary` keeps a value's noise or drops it, `signed` keeps it or turns it round. What lies beyond the noise is
    cut off. noise: `uniform` between -magnitude and magnitude; or its `sign` alone, times the magnitude.

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
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        drawn = self.draw(block.numel, context)
        kept = stochastic_mask(values, drawn, self.signed, context.generator(self.name))
        write_mask(kept.numpy(), block, out)
        return masked(drawn, kept, self.signed)

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        kept = torch.from_numpy(read_mask(block, source))
        return masked(self.draw(block.numel, context), kept, self.signed)

    @property
    def signed(self) -> bool:
        return self.mask == "signed"

    def draw(self, count: int, context: CodingContext) -> Tensor:
        """Return the noise of a message's values, [count]; both sides get the same bits."""
        key = derive(context.run, "codec", self.name, context.round, context.sender)
        words = np.random.Philox(key=[key, 0]).random_raw(-(-count // 2)).astype("<u8").view("<u4")[:count]
        odd = 2 * (words >> (32 - _DIGITS)).astype(np.int64) + 1 - (1 << _DIGITS)
        values = odd.astype(np.float32) / np.float32(1 << _DIGITS) if self.noise == "uniform" else np.sign(odd)
        return torch.from_numpy(values.astype(np.float32) * np.float32(self.magnitude))


def stochastic_mask(values: Tensor, noise: Tensor, signed: bool, draws: torch.Generator) -> Tensor:
    """Return which noise is kept, as booleans, so that the mean of `masked` is `clipped`: stochastic masking.

    All of one shape; noise is nowhere 0.
    """
    share = values / noise
    chance = (share + 1) / 2 if signed else share
    return torch.rand(chance.shape, generator=draws) < chance


def masked(noise: Tensor, kept: Tensor, signed: bool) -> Tensor:
    """Return the noise that is kept; the other as 0, or turned round if `signed`."""
    return torch.where(kept, noise, -noise if signed else 0.0)


def clipped(values: Tensor, noise: Tensor, signed: bool) -> Tensor:
    """Return the nearest values that masks can give on average: between 0 (or -noise, if `signed`) and noise."""
    return (values / noise).clamp(-1.0 if signed else 0.0, 1.0) * noise
