"""The arm that savings are measured against, and how many times fewer bytes another took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onebasin.report.arms import Arm, ReportError, Section


def find_baseline(arms: Sequence[Arm], label: str | None = None) -> Arm | None:
    """The arm that savings are measured against.

    With `label` the arm of that name (ReportError if there is none). Without, FedAvg from a broadcast start with
    fp32 both ways; of several the one that is called "FedAvg fp32", or else the strongest: fewest bytes to the hardest
    target that one of them reached with every seed. None where there is no such arm.
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
        costs = [(reach.spread.mean, arm) for arm in candidates if (reach := arm.bytes_to(target)).spread and reach.all]
        if costs:
            return min(costs, key=lambda pair: pair[0])[1]
    return min(candidates, key=lambda arm: len(arm.label), default=None)


def section_baseline(section: Section, label: str | None = None) -> Arm | None:
    """The baseline of one task of several: the arm called `label`; where there is none, the one that is found."""
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
