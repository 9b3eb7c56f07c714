"""Grouping of runs into sections (one per task) and arms (one per configuration).

A task is a data set, a model, a partition and a number of clients. Runs of different tasks never share a table or a
figure.
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


def read_runs(root: Path) -> list[RunRecord]:
    """Return every run under `root`. Raises ReportError when there is none, ValueError when a file is damaged."""
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

    Training on pooled data has no partition, so it appears in every task that has its data set and model.
    A configuration and seed that occurs twice counts once: the finished run is kept, or else the longer one.
    A run that was made before a setting existed lacks that setting. Therefore runs with one label belong to one arm
    when they agree in all settings that both of them have.
    Raises ReportError when there is no run.
    """
    if not records:
        raise ReportError("no runs to report: a report needs at least one run directory")
    tasks: dict[str, dict[str, list[RunRecord]]] = {}
    for record in sorted(records, key=is_pooled):
        matching = [key for key, arms in tasks.items() if is_pooled(record) and _has_data_of(record, arms)]
        for key in matching or [_json_key(_task(record))]:
            arms = tasks.setdefault(key, {})
            arms.setdefault(_arm_key(record, arms), []).append(record)
    groups = [list(arms.values()) for arms in tasks.values()]
    titles = _unique_names([(_title(runs), _task(runs[0][0])) for runs in groups])
    return [_section(title, runs) for title, runs in zip(titles, groups, strict=True)]


def _arm_key(record: RunRecord, arms: dict[str, list[RunRecord]]) -> str:
    """Return the key of the arm that a run belongs to, or a new key when it belongs to none."""
    own = dict(_flatten(settings(record)))
    for key, runs in arms.items():
        if runs[0].label != record.label:
            continue
        other = dict(_flatten(settings(runs[0])))
        if all(other[name] == own[name] for name in own.keys() & other.keys()):
            return key
    return _json_key([record.label, settings(record)])


def _section(title: str, groups: list[list[RunRecord]]) -> Section:
    unique = [_one_run_per_seed(group) for group in groups]
    labels = _unique_names([(group[0].label, settings(group[0])) for group in unique])
    arms = [Arm(label, tuple(group)) for label, group in zip(labels, unique, strict=True)]
    duplicates = sum(map(len, groups)) - sum(map(len, unique))
    return Section(title, tuple(sorted(arms, key=_best_first)), duplicates)


def _best_first(arm: Arm) -> tuple[bool, bool, float]:
    accuracy = arm.accuracy()
    return arm.is_reference, accuracy is None, -accuracy.mean if accuracy else 0.0


def _one_run_per_seed(runs: list[RunRecord]) -> list[RunRecord]:
    best: dict[Any, RunRecord] = {}
    for run in sorted(runs, key=lambda run: (bool(run.summary), len(run.history)), reverse=True):
        best.setdefault(seed_of(run), run)
    return sorted(best.values(), key=lambda run: (seed_of(run) is None, seed_of(run)))


def _unique_names(named: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Return the names; each name that occurs twice is followed by the settings in which its owners differ."""
    flat_settings = [dict(_flatten(config)) for _, config in named]
    names = []
    for (name, _), own in zip(named, flat_settings, strict=True):
        namesakes = [flat for (other, _), flat in zip(named, flat_settings, strict=True) if other == name]
        differing = [key for key in own if any(namesake.get(key) != own[key] for namesake in namesakes)]
        suffix = ", ".join(f"{key.split('.')[-1]}={own[key]}" for key in differing)
        names.append(f"{name} ({suffix})" if suffix else name)
    return names


def settings(run: RunRecord) -> dict[str, Any]:
    """Return the configuration without the seed and without what cannot change the outcome: label, engine, tracking."""
    return {k: v for k, v in run.config.items() if k not in ("label", "engine", "tracking", "seed")}


def _task(run: RunRecord) -> dict[str, Any]:
    task = run.config.get("task")
    if isinstance(task, dict):
        # Runs that were made before a setting existed lack it; zero means the same.
        return {name: value for name, value in task.items() if value != 0}
    return {name: run.summary.get(name) for name in ("dataset", "model")}


def is_pooled(run: RunRecord) -> bool:
    """Return whether a run trained on all data in one place, without a partition."""
    method = run.config.get("method")
    return isinstance(method, dict) and method.get("data") == "pooled"


def _has_data_of(run: RunRecord, arms: dict[str, list[RunRecord]]) -> bool:
    """Return whether a run has the data set and the model of the task to which these arms belong."""
    own, other = _task(run), _task(next(iter(arms.values()))[0])
    return all(own.get(name) == other.get(name) for name in ("dataset", "model"))


def _title(groups: list[list[RunRecord]]) -> str:
    task = _task(groups[0][0])
    # Pooled training records a single client, and a partition by owner determines the number of clients itself.
    clients = max(len(run.holdings.get("counts", ())) for runs in groups for run in runs) or task.get("clients")
    parts = [_kind(task.get("dataset")), _kind(task.get("model")), partition_text(task.get("partition"))]
    return " · ".join([part for part in parts if part] + ([f"{clients} clients"] if clients else []))


def task_title(run: RunRecord, without_clients: bool = False) -> str:
    """Return the title of a run's task, as in a section; `without_clients` leaves out the number of clients."""
    title = _title([[run]])
    return re.sub(r" · \d+ clients$", "", title) if without_clients else title


def _kind(choice: Any) -> str:
    return str((choice.get("kind") if isinstance(choice, dict) else choice) or "")


def partition_text(partition: Any) -> str:
    """Return a partition setting in words, such as "Dirichlet(0.3)"."""
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


def _json_key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _flatten(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting of nested tables with its dotted key."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
