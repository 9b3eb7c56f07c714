"""The axes of the curves: accuracy, on a scale that is stretched towards 100% if useful, and bytes on a log scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onebasin.report import units

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]
_STRETCH_ABOVE = 0.8
_MAX_DRAWN_ACCURACY = 0.9995
# Percent, in order of priority: a tick is left out if it would be too close to an earlier one.
_TICKS = (
    *(0, 50, 90, 99, 99.9), *(80, 70, 60, 20, 95, 98), *(10, 30, 40, 85, 97, 96, 99.5),
    *(88, 92, 94, 75, 65, 86, 82, 84, 87, 83, 93, 91, 89),
)  # fmt: skip


def clip_accuracy(accuracy: Any) -> Any:
    """Return the accuracy as it is drawn: 100% lies at the end of the stretched axis, not at infinity."""
    return np.minimum(accuracy, _MAX_DRAWN_ACCURACY)


def scale_accuracy(axes: Axes, finals: Sequence[float]) -> None:
    """Set the scale, the limits, the ticks (percent) and the label of the accuracy axis.

    finals: the final accuracies in [0, 1]. If one is at least 80%, the scale is logarithmic in the error rate: equal
    distances on the axis divide the error rate by equal factors.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    values = [float(v) for line in axes.lines for v in np.asarray(line.get_ydata(), dtype=np.float64) if v == v]
    bottom, top = min(values, default=0.0), max(values, default=1.0)
    stretched = max(finals, default=0.0) >= _STRETCH_ABOVE
    if stretched:
        axes.set_yscale("function", functions=(_to_height, _from_height))
        low, high = _to_height(np.array([bottom, top]))
        pad = 0.04 * max(high - low, 0.05)
        bottom, top = (float(v) for v in _from_height(np.array([low - pad, high + pad])))
        ticks = _readable_ticks(bottom, top)
        axes.set_ylabel("test accuracy, % (axis stretched towards 100)")
    else:
        pad = 0.04 * max(top - bottom, 0.05)
        bottom, top = bottom - pad, top + pad
        step = next(s for s in (0.5, 1, 2, 5, 10, 20) if (top - bottom) * 100 / s <= 9)
        ticks = [step * k / 100 for k in range(math.floor(100 / step) + 1)]
        axes.set_ylabel("test accuracy, %")
    axes.set_ylim(max(bottom, 0.0), min(top, _MAX_DRAWN_ACCURACY if stretched else 1.0))
    axes.yaxis.set_major_locator(FixedLocator([t for t in ticks if bottom <= t <= top]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))


def _to_height(accuracy: FloatArray) -> FloatArray:
    """Return the height of an accuracy on the stretched axis: -log10 of the error rate."""
    return -np.log10(np.maximum(1 - np.asarray(accuracy, dtype=np.float64), 1e-5))


def _from_height(height: FloatArray) -> FloatArray:
    return 1 - 10 ** -np.asarray(height, dtype=np.float64)


def _readable_ticks(bottom: float, top: float) -> list[float]:
    """Return ticks between two accuracies that are at least a fifteenth of the axis' height apart."""
    low, high = _to_height(np.array([bottom, top]))
    heights = {tick: float(_to_height(np.array(tick / 100))) for tick in _TICKS}
    kept: list[float] = []
    for tick, height in heights.items():
        if low <= height <= high and all(abs(height - heights[other]) >= (high - low) / 15 for other in kept):
            kept.append(tick)
    return [tick / 100 for tick in kept]


def scale_bytes(axes: Axes) -> None:
    """Set ticks in bytes, with their units, on an x axis that is already logarithmic."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    steps = (1,) if decades > 4 else (1, 3) if decades > 2 else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [k * 10.0**p for p in powers for k in steps]
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: units.tick_text(value)))
    axes.set_xlim(low, high)
