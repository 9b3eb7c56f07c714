"""The least-squares (Lloyd-Max) quantiser of the standard normal distribution.

Max: Quantizing for Minimum Distortion. IRE Trans. Inf. Theory 1960, table I; Lloyd 1982.
"""

import math
from functools import cache

import numpy as np

MAX_BITS = 8


@cache
def gaussian_levels(bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges [2^bits - 1] and the levels [2^bits] of the quantiser with 2^bits cells, ascending, in float64.

    Each level is the mean of a standard normal variable within its cell; each edge is midway between two levels.
    Errors: `ValueError` unless bits is from 1 to 8.
    """
    if not 1 <= bits <= MAX_BITS:
        raise ValueError(f"bits: {bits}; expected 1 to {MAX_BITS}")
    cells = 1 << bits
    levels = np.linspace(-1.0, 1.0, cells + 2)[1:-1] * math.sqrt(2 * bits + 1)
    for _ in range(10_000):
        edges = (levels[1:] + levels[:-1]) / 2
        new_levels = _cell_means(edges)
        converged = np.abs(new_levels - levels).max() < 1e-12
        levels = new_levels
        if converged:
            break
    return edges, levels


def _cell_means(edges: np.ndarray) -> np.ndarray:
    """Return the mean of a standard normal variable within each cell."""
    from scipy.special import ndtr

    bounds = np.concatenate([[-np.inf], edges, [np.inf]])
    density = np.exp(-0.5 * bounds**2) / math.sqrt(2 * math.pi)
    means: np.ndarray = (density[:-1] - density[1:]) / np.diff(ndtr(bounds))
    return means
