"""Signatures: quantised responses, by which neurons can be matched without their weights.

A standardised response is close to normal, so all use one code table: that of the normal distribution.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from onebasin.alignment.models import AlignmentError
from onebasin.alignment.responses import standardised
from onebasin.symmetry.spec import PermutationSpec
from onebasin.wire.gaussian_levels import gaussian_levels


def coded_bytes(spec: PermutationSpec, bits: int) -> int:
    """Return the number of bytes of a model's signatures. spec: `Responses.spec`. bits: of each response."""
    return (sum(math.prod(entry.shape) for entry in spec.tensors.values()) * bits + 7) // 8


def encode_signatures(responses: dict[str, Tensor], bits: int) -> bytes:
    """Return standardised responses (`Responses.of`) as packed codes of `bits` bits, the first in the lowest bits."""
    edges, _ = gaussian_levels(bits)
    codes = [
        np.searchsorted(edges, (rows * math.sqrt(rows.shape[-1])).double().numpy().reshape(-1))
        for rows in responses.values()
    ]
    planes = np.concatenate(codes).astype(np.uint8)[:, None] >> np.arange(bits, dtype=np.uint8) & 1
    return np.packbits(planes.reshape(-1), bitorder="little").tobytes()


def decode_signatures(data: bytes, spec: PermutationSpec, bits: int) -> dict[str, Tensor]:
    """Return the responses in `data`, standardised again.

    data, bits: as from `encode_signatures`. spec: `Responses.spec`. Errors: `AlignmentError` if the length does not
    fit.
    """
    expected = coded_bytes(spec, bits)
    if len(data) != expected:
        raise AlignmentError(f"the signatures have {len(data)} bytes, not {expected}")
    _, levels = gaussian_levels(bits)
    sizes = [math.prod(entry.shape) for entry in spec.tensors.values()]
    unpacked = np.unpackbits(np.frombuffer(data, np.uint8), count=sum(sizes) * bits, bitorder="little")
    codes = (unpacked.reshape(-1, bits) << np.arange(bits, dtype=np.uint8)).sum(1, dtype=np.uint8)
    values = torch.from_numpy(levels[codes].astype(np.float32))
    return {
        name: standardised(part.view(entry.shape))
        for (name, entry), part in zip(spec.tensors.items(), torch.split(values, sizes), strict=True)
    }
