"""The least-squares (Lloyd-Max) quantiser of given values: a number of levels, each the mean of its nearest values.

Lloyd: Least Squares Quantization in PCM. IEEE Trans. Inf. Theory 1982, method I.
"""

import numpy as np

MAX_PASSES = 100


def fitted_levels(values: np.ndarray, cells: int) -> np.ndarray:
    """Return quantiser levels [cells] for finite values [n], ascending, in float32.

    If at most `cells` distinct values occur, the levels are these values, and the largest is repeated. Otherwise the
    initial levels are the means of `cells` runs of equal length of the sorted values, and at most `MAX_PASSES` passes
    of Lloyd's method follow. A level to which no value is nearest keeps its value.
    """
    distinct, counts = np.unique(values.astype(np.float64), return_counts=True)
    if len(distinct) <= cells:
        return np.pad(distinct, (0, cells - len(distinct)), "edge" if len(distinct) else "constant").astype("f4")
    ordered = np.repeat(distinct, counts)
    sums = np.concatenate([[0.0], ordered.cumsum()])
    ends = np.linspace(0, len(ordered), cells + 1).round().astype(np.int64)
    levels = _run_means(sums, ends, np.full(cells, ordered[0]))
    for _ in range(MAX_PASSES):
        inner = np.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2, side="right")
        new_ends = np.concatenate([[0], inner, [len(ordered)]])
        if np.array_equal(new_ends, ends):
            break
        ends, levels = new_ends, _run_means(sums, new_ends, levels)
    return np.sort(levels).astype(np.float32)


def _run_means(sums: np.ndarray, ends: np.ndarray, defaults: np.ndarray) -> np.ndarray:
    """Return the mean of each run of sorted values; of an empty run, its default.

    sums: cumulative sums [n + 1]. ends: bounds of the runs [cells + 1]. defaults: [cells].
    """
    counts = np.diff(ends)
    means: np.ndarray = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), defaults)
    return means
