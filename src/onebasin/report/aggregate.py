"""From runs to arms: what several seeds of one configuration say together, task by task.

A *section* is one task (data set, model, partition, number of clients); sections are never mixed in a table
or a figure. An *arm* is one configuration apart from its seeds; its figures are means over finished runs with
the sample standard deviation (ddof = 1; none for a single seed).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

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


def sections(records: Sequence[RunRecord]) -> list[Section]:
    """Group runs into tasks and arms, in the order in which the runs are given.

    A configuration and seed that occurs twice counts once (the finished, then the longer run is kept).
    Raises ReportError when there is no run.
    """
    if not records:
        raise ReportError("no runs to report: a report needs at least one run directory")
    tasks: dict[str, dict[str, list[RunRecord]]] = {}
    for record in records:
        arms = tasks.setdefault(_key(_task(record)), {})
        arms.setdefault(_key([record.label, settings(record)]), []).append(record)
    groups = [list(arms.values()) for arms in tasks.values()]
    titles = _distinguished([(_title(runs[0][0]), _task(runs[0][0])) for runs in groups])
    return [_section(title, runs) for title, runs in zip(titles, groups, strict=True)]


def _section(title: str, groups: list[list[RunRecord]]) -> Section:
    kept = [_one_per_seed(group) for group in groups]
    labels = _distinguished([(group[0].label, settings(group[0])) for group in kept])
    arms = [Arm(label, tuple(group)) for label, group in zip(labels, kept, strict=True)]
    repeats = sum(map(len, groups)) - sum(map(len, kept))
    return Section(title, tuple(sorted(arms, key=_best_first)), repeats)


def _best_first(arm: Arm) -> tuple[bool, bool, float]:
    accuracy = arm.accuracy()
    return arm.is_reference, accuracy is None, -accuracy.mean if accuracy else 0.0


def _one_per_seed(runs: list[RunRecord]) -> list[RunRecord]:
    best: dict[Any, RunRecord] = {}
    for run in sorted(runs, key=lambda run: (bool(run.summary), len(run.history)), reverse=True):
        best.setdefault(seed_of(run), run)
    return sorted(best.values(), key=lambda run: (seed_of(run) is None, seed_of(run)))


def _distinguished(named: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """The names; those that occur twice get the settings in which they differ added."""
    flats = [dict(_flatten(config)) for _, config in named]
    names = []
    for (name, _), own in zip(named, flats, strict=True):
        twins = [flat for (other, _), flat in zip(named, flats, strict=True) if other == name]
        differing = [key for key in own if any(twin.get(key) != own[key] for twin in twins)]
        words = ", ".join(f"{key.split('.')[-1]}={own[key]}" for key in differing)
        names.append(f"{name} ({words})" if words else name)
    return names


def find_baseline(arms: Sequence[Arm], label: str | None = None) -> Arm | None:
    """The arm that savings are measured against.

    With `label` the arm of that name (ReportError if there is none). Without, FedAvg from a broadcast start with
    fp32 both ways; of several (a tuning sweep) the strongest: fewest bytes to the hardest target that one of them
    reached with every seed. None where there is no such arm.
    """
    if label is not None:
        for arm in arms:
            if arm.label.casefold() == label.casefold():
                return arm
        raise ReportError(f"baseline: no arm is called {label!r}; there are: {', '.join(a.label for a in arms)}")
    candidates = [arm for arm in arms if arm.finished and _is_plain_fedavg(arm.runs[0].config.get("method"))]
    targets = {name for arm in candidates for run in arm.finished for name in run.summary.get("bytes_to_target", {})}
    for target in sorted(targets, key=float, reverse=True):
        costs = [(reach.spread.mean, arm) for arm in candidates if (reach := arm.bytes_to(target)).spread and reach.all]
        if costs:
            return min(costs, key=lambda pair: pair[0])[1]
    return min(candidates, key=lambda arm: len(arm.label), default=None)


def _is_plain_fedavg(method: Any) -> bool:
    if not isinstance(method, dict):
        return False
    plain = {"start": "broadcast", "uplink": "fp32", "downlink": "fp32"}
    parts = {"objective": "plain", "combine": "average"}
    return (
        method.get("name") == "fedavg"
        and all(method.get(choice) == value for choice, value in plain.items())
        and all(_kind(method.get(choice, kind)) == kind for choice, kind in parts.items())
    )


def saving(arm: Arm, baseline: Arm | None, target: str | None = None) -> float | None:
    """How many times fewer bytes than the baseline: in total, or to a target that every run of both reached."""
    if baseline is None:
        return None
    if target is None:
        own, other = arm.bytes(), baseline.bytes()
    else:
        reaches = arm.bytes_to(target), baseline.bytes_to(target)
        if not all(reach.all for reach in reaches):
            return None
        own, other = reaches[0].spread, reaches[1].spread
    return other.mean / own.mean if own and other and own.mean > 0 else None


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


def settings(run: RunRecord) -> dict[str, Any]:
    """The configuration without what cannot change the outcome (label, engine, tracking) and without the seed."""
    return {k: v for k, v in run.config.items() if k not in ("label", "engine", "tracking", "seed")}


def _task(run: RunRecord) -> dict[str, Any]:
    task = run.config.get("task")
    return task if isinstance(task, dict) else {name: run.summary.get(name) for name in ("dataset", "model")}


def _title(run: RunRecord) -> str:
    task = _task(run)
    clients = len(run.holdings.get("counts", ())) or task.get("clients")
    parts = [_kind(task.get("dataset")), _kind(task.get("model")), _partition_text(task.get("partition"))]
    return " · ".join([part for part in parts if part] + ([f"{clients} clients"] if clients else []))


def _kind(choice: Any) -> str:
    return str((choice.get("kind") if isinstance(choice, dict) else choice) or "")


def _partition_text(partition: Any) -> str:
    options = partition if isinstance(partition, dict) else {}
    match _kind(partition):
        case "iid":
            return "IID"
        case "dirichlet" if "alpha" in options:
            return f"Dirichlet({options['alpha']})"
        case "owner":
            return "by owner"
        case name:
            values = ", ".join(f"{key} {value}" for key, value in options.items() if key not in ("kind", "seed"))
            return f"{name} ({values})" if values else name


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _flatten(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
