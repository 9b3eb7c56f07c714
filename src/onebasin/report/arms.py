"""Arms and sections: the runs of one configuration with several seeds, and the arms of one task.

An *arm* is one configuration apart from its seed. Its figures are means over the finished runs, with the sample
standard deviation (ddof = 1; none for a single seed). A *section* is all arms of one task.
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
    """A report that cannot be made; the message says what was found and what was expected."""


@dataclass(frozen=True)
class Spread:
    """The mean and the sample standard deviation of `n` values; `sd` is None for a single value."""

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Return the spread of the values that are not None; None when there is no such value."""
        known = [float(value) for value in values if value is not None]
        if not known:
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))


@dataclass(frozen=True)
class BytesToTarget:
    """The bytes until a target accuracy was first reached.

    spread: over the runs that reached it, None where none did. reached: the number of those runs, of `n` finished runs.
    """

    spread: Spread | None
    reached: int
    n: int

    @property
    def reached_by_all(self) -> bool:
        """Whether every finished run reached the target."""
        return self.reached == self.n


@dataclass(frozen=True)
class Arm:
    """The runs of one configuration, each with another seed."""

    label: str
    runs: tuple[RunRecord, ...]

    @property
    def is_reference(self) -> bool:
        """Whether no model is sent in this arm's training, as in centralised and local-only training."""
        return any(kind_of(run) == REFERENCE for run in self.runs)

    @cached_property
    def finished(self) -> tuple[RunRecord, ...]:
        """The runs that have a summary."""
        return tuple(run for run in self.runs if run.summary)

    @cached_property
    def unfinished(self) -> tuple[RunRecord, ...]:
        """The runs that have no summary: they were stopped, or are still running."""
        return tuple(run for run in self.runs if not run.summary)

    def accuracy(self, which: str = "final") -> Spread | None:
        """Return the test accuracy in [0, 1]; `which` is "final", "best" or "last10"."""
        return Spread.of(run.summary.get("accuracy", {}).get(which) for run in self.finished)

    def bytes(self, kind: str = "total") -> Spread | None:
        """Return the bytes of one kind; None for a reference, whose few control messages carry no model."""
        if self.is_reference:
            return None
        return Spread.of(run.summary.get("bytes", {}).get(kind) for run in self.finished)

    def bytes_to_target(self, target: str) -> BytesToTarget:
        """Return the total bytes until `target` was first reached; `target` is a key of the summary, such as "0.84"."""
        costs = [run.summary.get("bytes_to_target", {}).get(target) for run in self.finished]
        reached = [] if self.is_reference else [cost for cost in costs if cost is not None]
        return BytesToTarget(Spread.of(reached), len(reached), len(costs))

    def summary_value(self, name: str) -> Spread | None:
        """Return a number at the top level of the summary, such as "seconds", "rounds" or "parameters"."""
        return Spread.of(run.summary.get(name) for run in self.finished)


@dataclass(frozen=True)
class Section:
    """One task and its arms, in descending order of final accuracy, references last.

    duplicates: the number of runs left out because another run has the same configuration and seed.
    """

    title: str
    arms: tuple[Arm, ...]
    duplicates: int = 0

    @cached_property
    def runs(self) -> tuple[RunRecord, ...]:
        """All runs of all arms."""
        return tuple(run for arm in self.arms for run in arm.runs)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """The target accuracies of all runs, as keys of the summary ("0.84"), lowest first."""
        names = {name for run in self.runs for name in run.summary.get("bytes_to_target", {})}
        return tuple(sorted(names, key=float))

    @cached_property
    def dataset_bytes(self) -> int | None:
        """The size of the compressed training data in bytes; None when no finished run has recorded it."""
        return next((run.summary["dataset_bytes"] for run in self.runs if run.summary.get("dataset_bytes")), None)


def seed_of(run: RunRecord) -> int | None:
    """Return the seed of a run, from its configuration or else its summary; None when neither has one."""
    seed = run.config.get("seed", run.summary.get("seed"))
    return seed if isinstance(seed, int) else None


def kind_of(run: RunRecord) -> str:
    """Return "federated" or "reference", from the summary or else from the configuration."""
    method = run.config.get("method")
    # A reference has no uplink.
    fallback = REFERENCE if isinstance(method, dict) and method.get("uplink") == "none" else "federated"
    return str(run.summary.get("kind", fallback))


def planned_rounds(run: RunRecord) -> int | None:
    """Return the number of rounds in the configuration, or else in the summary; None when neither has one."""
    federation = run.config.get("federation")
    rounds = federation.get("rounds") if isinstance(federation, dict) else None
    return rounds if isinstance(rounds, int) else run.summary.get("rounds")
