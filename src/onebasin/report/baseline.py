"""The baseline arm of a section, and the ratio of its bytes to those of another arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onebasin.report.arms import Arm, ReportError, Section


def find_baseline(arms: Sequence[Arm], label: str | None = None) -> Arm | None:
    """Return the arm against which savings are measured.

    label: the label of that arm, in any case; left out, the baseline is FedAvg from a broadcast start with fp32 in
    both directions. If there are several such arms, it is the one labelled "FedAvg fp32", or else the one with the
    fewest bytes to the highest target that any of them reached with every seed. None when there is no such arm.
    Raises ReportError when no arm has the given label.
    """
    if label is not None:
        for arm in arms:
            if arm.label.casefold() == label.casefold():
                return arm
        raise ReportError(f"baseline: no arm is called {label!r}; there are: {', '.join(a.label for a in arms)}")
    candidates = [arm for arm in arms if arm.finished and _is_plain_fedavg(arm.runs[0].config.get("method"))]
    for arm in candidates:
        if arm.label.casefold() == "fedavg fp32":
            return arm
    targets = {name for arm in candidates for run in arm.finished for name in run.summary.get("bytes_to_target", {})}
    for target in sorted(targets, key=float, reverse=True):
        costs = [
            (cost.spread.mean, arm)
            for arm in candidates
            if (cost := arm.bytes_to_target(target)).spread and cost.reached_by_all
        ]
        if costs:
            return min(costs, key=lambda pair: pair[0])[1]
    return min(candidates, key=lambda arm: len(arm.label), default=None)


def section_baseline(section: Section, label: str | None = None) -> Arm | None:
    """Return the baseline of one task: the arm labelled `label` if the task has it, or else the default baseline."""
    named = any(arm.label.casefold() == (label or "").casefold() for arm in section.arms)
    return find_baseline(section.arms, label if named else None)


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


def _kind(choice: Any) -> Any:
    return choice.get("kind") if isinstance(choice, dict) else choice


def saving(arm: Arm, baseline: Arm | None, target: str | None = None) -> float | None:
    """Return the baseline's bytes divided by the arm's bytes.

    target: None for total bytes, or a target accuracy ("0.84") for the bytes until it was first reached.
    None when a figure is missing, or when a finished run of either arm did not reach the target.
    """
    if baseline is None:
        return None
    if target is None:
        own, other = arm.bytes(), baseline.bytes()
    else:
        to_target = arm.bytes_to_target(target), baseline.bytes_to_target(target)
        if not all(cost.reached_by_all for cost in to_target):
            return None
        own, other = to_target[0].spread, to_target[1].spread
    return other.mean / own.mean if own and other and own.mean > 0 else None
