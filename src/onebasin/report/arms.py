"""Arms and sections: what several seeds of one configuration say together.

An *arm* is one configuration apart from its seed; its figures are means over finished runs with the sample standard
deviation (ddof = 1; none for a single seed). A *section* is the arms of one task.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onebasin.results.records import RunRecord

REFERENCE = "reference"
BYTE_KINDS = ("up", "down", "init", "align")


class ReportError(ValueError):
    """What was asked cannot be reported; the message says what was found and what would be right."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (None for one value) over `n` values."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """The spread of the values that are known; None where none is."""
        known = [float(value) for value in values if value is not None]
        if not known:
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))


@dataclass(frozen=True)
class Reach:
    """How a target was reached: `spread` over the `reached` of `n` runs that came there at all."""

    spread: Spread | None
    reached: int
    n: int

    @property
    def all(self) -> bool:
        return self.reached == self.n


@dataclass(frozen=True)
class Arm:
    """One configuration, run with one or several seeds."""

    label: str
    runs: tuple[RunRecord, ...]

    @property
    def is_reference(self) -> bool:
        """True for training in which no model travels: centralised, local-only."""
        return any(kind_of(run) == REFERENCE for run in self.runs)

    @cached_property
    def finished(self) -> tuple[RunRecord, ...]:
        return tuple(run for run in self.runs if run.summary)

    @cached_property
    def unfinished(self) -> tuple[RunRecord, ...]:
        return tuple(run for run in self.runs if not run.summary)

    def accuracy(self, which: str = "final") -> Spread | None:
        """Test accuracy in [0, 1]; `which` is final, best or last10."""
        return Spread.of(run.summary.get("accuracy", {}).get(which) for run in self.finished)

    def bytes(self, kind: str = "total") -> Spread | None:
        """Bytes of one kind; None for a reference, whose few control bytes carry no model."""
        if self.is_reference:
            return None
        return Spread.of(run.summary.get("bytes", {}).get(kind) for run in self.finished)

    def bytes_to(self, target: str) -> Reach:
        """Total bytes when `target` (as the summary writes it, "0.84") was first reached."""
        found = [run.summary.get("bytes_to_target", {}).get(target) for run in self.finished]
        known = [] if self.is_reference else [value for value in found if value is not None]
        return Reach(Spread.of(known), len(known), len(found))

    def measure(self, name: str) -> Spread | None:
        """A number at the top level of the summary: seconds, rounds, parameters."""
        return Spread.of(run.summary.get(name) for run in self.finished)


@dataclass(frozen=True)
class Section:
    """One task and the arms that were run on it, by final accuracy, references last.

    repeats: runs left out because the same configuration and seed was there twice.
    """

    title: str
    arms: tuple[Arm, ...]
    repeats: int = 0

    @cached_property
    def runs(self) -> tuple[RunRecord, ...]:
        return tuple(run for arm in self.arms for run in arm.runs)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Every target that some run was measured against, lowest first."""
        names = {name for run in self.runs for name in run.summary.get("bytes_to_target", {})}
        return tuple(sorted(names, key=float))

    @cached_property
    def dataset_bytes(self) -> int | None:
        """Size of the compressed training data, where a finished run has recorded it."""
        return next((run.summary["dataset_bytes"] for run in self.runs if run.summary.get("dataset_bytes")), None)


def seed_of(run: RunRecord) -> int | None:
    """The seed of a run, from its configuration or else its summary."""
    seed = run.config.get("seed", run.summary.get("seed"))
    return seed if isinstance(seed, int) else None


def kind_of(run: RunRecord) -> str:
    """Federated or reference, from the summary or else from the configuration (a reference has no uplink)."""
    method = run.config.get("method")
    fallback = REFERENCE if isinstance(method, dict) and method.get("uplink") == "none" else "federated"
    return str(run.summary.get("kind", fallback))


def planned_rounds(run: RunRecord) -> int | None:
    """The rounds that the configuration asks for."""
    federation = run.config.get("federation")
    rounds = federation.get("rounds") if isinstance(federation, dict) else None
    return rounds if isinstance(rounds, int) else run.summary.get("rounds")
