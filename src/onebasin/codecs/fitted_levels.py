"""The least-squares quantiser of some given values: so many levels, each the mean of the values nearest to it.

Lloyd: Least Squares Quantization in PCM. IEEE Trans. Inf. Theory 1982, method I.
"""

import numpy as np

MOST_PASSES = 100


def fitted_levels(values: np.ndarray, cells: int) -> np.ndarray:
    """Return the levels [cells], ascending, in float32; the values themselves where there are no more different ones.

    values: [n], finite. Levels begin as the means of as many runs of equal length of the sorted values; one that no
    value is nearest to stays where it was.
    """
    different, counts = np.unique(values.astype(np.float64), return_counts=True)
    if len(different) <= cells:
        return np.pad(different, (0, cells - len(different)), "edge" if len(different) else "constant").astype("f4")
    ordered = np.repeat(different, counts)
    sums = np.concatenate([[0.0], ordered.cumsum()])
    ends = np.linspace(0, len(ordered), cells + 1).round().astype(np.int64)
    levels = _means(sums, ends, np.full(cells, ordered[0]))
    for _ in range(MOST_PASSES):
        inner = np.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2, side="right")
        moved = np.concatenate([[0], inner, [len(ordered)]])
        if np.array_equal(moved, ends):
            break
        ends, levels = moved, _means(sums, moved, levels)
    return np.sort(levels).astype(np.float32)


def _means(sums: np.ndarray, ends: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """The mean of each run of values, from their running sums; where a run is empty, the other."""
    counts = np.diff(ends)
    means: np.ndarray = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), otherwise)
    return means
