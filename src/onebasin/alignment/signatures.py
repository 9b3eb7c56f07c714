"""Signatures: responses in a few bits each, so that neurons can be matched without sending weights.

A standardised response is close to normal, so one code table serves all: the least-squares quantiser of the normal
distribution (Max: Quantizing for Minimum Distortion. IRE Trans. Inf. Theory 1960, table I; Lloyd 1982).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from onebasin.alignment.models import AlignmentError
from onebasin.alignment.responses import standardised
from onebasin.symmetry.spec import PermutationSpec

MOST_BITS = 8


def coded_bytes(spec: PermutationSpec, bits: int) -> int:
    """Bytes of the signatures of a model: `spec` is that of its responses (`Responses.spec`)."""
    return (sum(math.prod(entry.shape) for entry in spec.tensors.values()) * bits + 7) // 8


def encode_signatures(responses: dict[str, Tensor], bits: int) -> bytes:
    """Return standardised responses (`Responses.of`) as codes of `bits` bits, packed, the first in the low bits."""
    edges, _ = table(bits)
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
    _, levels = table(bits)
    sizes = [math.prod(entry.shape) for entry in spec.tensors.values()]
    unpacked = np.unpackbits(np.frombuffer(data, np.uint8), count=sum(sizes) * bits, bitorder="little")
    codes = (unpacked.reshape(-1, bits) << np.arange(bits, dtype=np.uint8)).sum(1, dtype=np.uint8)
    values = torch.from_numpy(levels[codes].astype(np.float32))
    return {
        name: standardised(part.view(entry.shape))
        for (name, entry), part in zip(spec.tensors.items(), torch.split(values, sizes), strict=True)
    }


@cache
def table(bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges between, and the levels of, 2**bits cells: each level is the mean of a normal within its cell.

    `AlignmentError` unless bits is from 1 to 8.
    """
    if not 1 <= bits <= MOST_BITS:
        raise AlignmentError(f"bits: {bits}; expected 1 to {MOST_BITS}")
    cells = 1 << bits
    levels = np.linspace(-1.0, 1.0, cells + 2)[1:-1] * math.sqrt(2 * bits + 1)
    for _ in range(10_000):
        edges = (levels[1:] + levels[:-1]) / 2
        better = _means(edges)
        settled = np.abs(better - levels).max() < 1e-12
        levels = better
        if settled:
            break
    return edges, levels


def _means(edges: np.ndarray) -> np.ndarray:
    """The mean of a standard normal within each cell."""
    from scipy.special import ndtr

    whole = np.concatenate([[-np.inf], edges, [np.inf]])
    density = np.exp(-0.5 * whole**2) / math.sqrt(2 * math.pi)
    means: np.ndarray = (density[:-1] - density[1:]) / np.diff(ndtr(whole))
    return means
