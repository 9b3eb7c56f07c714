"""Signatures: responses in a few bits each, so that neurons can be matched without sending weights.

A standardised response is close to normal, so one code table serves all: that of the normal distribution.
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
    """Bytes of the signatures of a model: `spec` is that of its responses (`Responses.spec`)."""
    return (sum(math.prod(entry.shape) for entry in spec.tensors.values()) * bits + 7) // 8


def encode_signatures(responses: dict[str, Tensor], bits: int) -> bytes:
    """Return standardised responses (`Responses.of`) as codes of `bits` bits, packed, the first in the low bits."""
    edges, _ = gaussian_levels(bits)
    codes = [
        np.searchsorted(edges, (rows * math.sqrt(rows.shape[-1])).double().numpy().reshape(-1))
        for rows in responses.values()
    ]
    planes = np.concatenate(codes).astype(np.uint8)[:, None] >> np.arange(bits, dtype=np.uint8) & 1
    return np.packbits(planes.reshape(-1), bitorder="little").tobytes()


def decode_signatures(data: bytes, spec: PermutationSpec, bits: int) -> dict[str, Tensor]:
    """Return the responses in `data`, standardised anew; `AlignmentError` when its length is not theirs."""
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
