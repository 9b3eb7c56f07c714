"""The least-squares quantiser of the normal distribution, for values that are nearly normal once they are scaled.

Max: Quantizing for Minimum Distortion. IRE Trans. Inf. Theory 1960, table I; Lloyd 1982.
"""

import math
from functools import cache

import numpy as np

MOST_BITS = 8


@cache
def gaussian_levels(bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges between, and the levels of, 2**bits cells: each level is the mean of a normal within its cell.

    `ValueError` unless bits is from 1 to 8.
    """
    if not 1 <= bits <= MOST_BITS:
        raise ValueError(f"bits: {bits}; expected 1 to {MOST_BITS}")
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
