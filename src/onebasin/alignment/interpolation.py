"""Linear interpolation between two models, and the loss barrier on the path.

Frankle, Dziugaite, Roy, Carbin: Linear Mode Connectivity and the Lottery Ticket Hypothesis. ICML 2020 (arXiv
1912.05671), section 2; Entezari, Sedghi, Saukh, Neyshabur 2022 (arXiv 2110.06296), definition 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from onebasin.alignment.merging import average
from onebasin.alignment.models import StateDict

POINTS = 11

Measure = Callable[[dict[str, Tensor], float], tuple[float, float]]
"""Given a state and its position on the line from 0 to 1, returns its loss and accuracy."""


@dataclass(frozen=True)
class Line:
    """Losses (mean cross-entropy, nats) and accuracies at equidistant positions from one model (0) to another (1)."""

    places: tuple[float, ...]
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def barrier(self) -> float:
        """The largest excess of the loss over the linear interpolation between the two ends; 0 if there is none."""
        first, last = self.losses[0], self.losses[-1]
        above = [
            loss - ((1 - position) * first + position * last)
            for position, loss in zip(self.places, self.losses, strict=True)
        ]
        return max(0.0, *above)


def line_between(first: StateDict, second: StateDict, measure: Measure, points: int = POINTS) -> Line:
    """Measure the models (1 - t) first + t second at `points` values of t from 0 to 1."""
    places = tuple(step / (points - 1) for step in range(points))
    measured = [measure(_interpolate(first, second, position), position) for position in places]
    return Line(places, tuple(loss for loss, _ in measured), tuple(accuracy for _, accuracy in measured))


def lines_to_mean(states: Sequence[StateDict], measure: Measure, points: int = POINTS) -> list[Line]:
    """Measure the line between two models, or for more models the line from each to the mean of all."""
    if len(states) == 2:
        return [line_between(states[0], states[1], measure, points)]
    centre = average(states)
    return [line_between(state, centre, measure, points) for state in states]


def _interpolate(first: StateDict, second: StateDict, position: float) -> dict[str, Tensor]:
    """The model at a position on the line. The ends are the given models, without rounding."""
    if position in (0.0, 1.0):
        return dict(second if position else first)
    return average([first, second], [1 - position, position])
