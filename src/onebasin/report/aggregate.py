"""From runs to sections: which runs belong to one task, which to one arm.

A task is a data set, a model, a partition and a number of clients; tasks are never mixed in a table or a figure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebasin.report.arms import Arm, ReportError, Section, seed_of

if TYPE_CHECKING:
    from onebasin.results.records import RunRecord


def runs_in(root: Path) -> list[RunRecord]:
    """Every run under `root`; ReportError where there is none, ValueError when a file is damaged."""
    from onebasin.results.records import find_runs

    if not root.is_dir():
        raise ReportError(f"{root}: no such directory; expected one that holds run directories")
    records = find_runs(root)
    if not records:
        raise ReportError(
            f"{root}: holds no run directory. A run directory holds config.toml, history.jsonl and, once the run "
            "is finished, summary.json; `onebasin run METHOD --out DIR` makes one"
        )
    return records


def sections(records: Sequence[RunRecord]) -> list[Section]:
    """Group runs into tasks and arms, in the order in which the runs are given.

    Training on pooled data knows no partition: it stands in every task that has its data set and model.
    A configuration and seed that occurs twice counts once (the finished, then the longer run is kept). A setting that a
    run lacks did not exist when it was made: runs of one label that agree in all settings that both have are one arm.
    Raises ReportError when there is no run.
    """
    if not records:
        raise ReportError("no runs to report: a report needs at least one run directory")
    tasks: dict[str, dict[str, list[RunRecord]]] = {}
    for record in sorted(records, key=is_pooled):
        fitting = [key for key, arms in tasks.items() if is_pooled(record) and _same_data(record, arms)]
        for key in fitting or [_key(_task(record))]:
            arms = tasks.setdefault(key, {})
            arms.setdefault(_arm_of(record, arms), []).append(record)
    groups = [list(arms.values()) for arms in tasks.values()]
    titles = _distinguished([(_title(runs), _task(runs[0][0])) for runs in groups])
    return [_section(title, runs) for title, runs in zip(titles, groups, strict=True)]


def _arm_of(record: RunRecord, arms: dict[str, list[RunRecord]]) -> str:
    """The key of the arm that a run belongs to, or of a new one."""
    own = dict(_flatten(settings(record)))
    for key, runs in arms.items():
        if runs[0].label != record.label:
            continue
        other = dict(_flatten(settings(runs[0])))
        if all(other[name] == own[name] for name in own.keys() & other.keys()):
            return key
    return _key([record.label, settings(record)])


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


def settings(run: RunRecord) -> dict[str, Any]:
    """The configuration without what cannot change the outcome (label, engine, tracking) and without the seed."""
    return {k: v for k, v in run.config.items() if k not in ("label", "engine", "tracking", "seed")}


def _task(run: RunRecord) -> dict[str, Any]:
    task = run.config.get("task")
    if isinstance(task, dict):
        return {name: value for name, value in task.items() if value != 0}  # zero is what is left out
    return {name: run.summary.get(name) for name in ("dataset", "model")}


def is_pooled(run: RunRecord) -> bool:
    """Whether a run trained on all data in one place, and so knows no partition."""
    method = run.config.get("method")
    return isinstance(method, dict) and method.get("data") == "pooled"


def _same_data(run: RunRecord, arms: dict[str, list[RunRecord]]) -> bool:
    own, other = _task(run), _task(next(iter(arms.values()))[0])
    return all(own.get(name) == other.get(name) for name in ("dataset", "model"))


def _title(groups: list[list[RunRecord]]) -> str:
    task = _task(groups[0][0])
    # Pooled training sees one holder, and a partition by owner finds the number of clients itself.
    clients = max(len(run.holdings.get("counts", ())) for runs in groups for run in runs) or task.get("clients")
    parts = [_kind(task.get("dataset")), _kind(task.get("model")), partition_text(task.get("partition"))]
    return " · ".join([part for part in parts if part] + ([f"{clients} clients"] if clients else []))


def task_title(run: RunRecord, without_clients: bool = False) -> str:
    """The name of a run's task, as sections are called."""
    title = _title([[run]])
    return re.sub(r" · \d+ clients$", "", title) if without_clients else title


def _kind(choice: Any) -> str:
    return str((choice.get("kind") if isinstance(choice, dict) else choice) or "")


def partition_text(partition: Any) -> str:
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
