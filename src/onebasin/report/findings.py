"""What a comparison says in a sentence or two, and what a reader should be warned of."""

from __future__ import annotations

from collections.abc import Sequence

from onebasin.report import units
from onebasin.report.arms import Arm, Section, seed_of
from onebasin.report.baseline import saving, section_baseline

_CLOSE = 0.01


def lead(found: Sequence[Section]) -> str:
    """How many runs there are, on how many tasks."""
    runs = units.plural(sum(len(section.runs) for section in found), "run")
    return f"{runs} on {units.plural(len(found), 'task')}: accuracy, and the bytes it cost."


def compared(section: Section, baseline: str | None = None) -> str:
    """How many arms and references, with how many seeds, and what savings are measured against."""
    base = section_baseline(section, baseline)
    federated = sum(not arm.is_reference for arm in section.arms)
    seeds = sorted({len(arm.runs) for arm in section.arms})
    span = units.plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    text = f"{units.plural(federated, 'federated arm')} and {units.plural(len(section.arms) - federated, 'reference')}"
    return f"{text}, {span} each." + (f" Savings are measured against {base.label}." if base else "")


def findings(section: Section, baseline: str | None = None) -> list[str]:
    """Plain sentences: the most accurate federated arm, the cheapest within one point of it, the references."""
    base = section_baseline(section, baseline)
    said = []
    scored = [(a.mean, arm) for arm in section.arms if not arm.is_reference and (a := arm.accuracy())]
    if scored:
        top, best = max(scored, key=lambda pair: pair[0])
        said.append(f"Highest final accuracy of the federated arms: {_with_cost(best, base)}.")
        costs = [(b.mean, arm) for mean, arm in scored if mean >= top - _CLOSE and (b := arm.bytes())]
        cheapest = min(costs, key=lambda pair: pair[0])[1] if costs else best
        if cheapest is not best:
            said.append(f"Fewest bytes within one point of it: {_with_cost(cheapest, base)}.")
        elif len(scored) > 1:
            said.append("No arm within one point of it took fewer bytes.")
    lines = [f"{arm.label} {_accuracy(arm)}" for arm in section.arms if arm.is_reference and arm.finished]
    if lines:
        said.append(f"References, for which no model travels: {'; '.join(lines)}.")
    return said


def warnings(section: Section) -> list[str]:
    """What limits the comparison: single seeds, unequal seeds, unfinished or repeated runs, several commits."""
    said = []
    seeds = {arm.label: {seed_of(run) for run in arm.finished} for arm in section.arms if arm.finished}
    single = [label for label, found in seeds.items() if len(found) == 1]
    if single:
        which = "Every arm" if len(single) == len(seeds) else ", ".join(single)
        said.append(f"One seed only: {which}. There is no spread; small differences may be chance.")
    if len({frozenset(found) for found in seeds.values()}) > 1:
        said.append("The arms were not all run with the same seeds.")
    unfinished = sum(len(arm.unfinished) for arm in section.arms)
    if unfinished:
        said.append(f"{units.plural(unfinished, 'run')} not finished: not counted in the tables.")
    if section.repeats:
        said.append(f"{units.plural(section.repeats, 'run')} left out: same configuration and seed as another.")
    commits = {str(commit) for run in section.runs if (commit := run.summary.get("environment", {}).get("commit"))}
    if len(commits) > 1:
        said.append(f"The runs come from {len(commits)} commits: {', '.join(sorted(commits))}.")
    if any(commit.endswith("-dirty") for commit in commits):
        said.append("Some runs come from a checkout with uncommitted changes (-dirty).")
    return said


def _with_cost(arm: Arm, base: Arm | None) -> str:
    total, ratio = arm.bytes(), saving(arm, base)
    cost = f", for {units.byte_text(total.mean)}" if total else ""
    if base and arm is not base and ratio:
        words = units.ratio_words(ratio)
        cost += f" ({words} {'as' if words == 'as many' else 'than'} {base.label})"
    return f"{arm.label}, {_accuracy(arm)}{cost}"


def _accuracy(arm: Arm) -> str:
    spread = arm.accuracy()
    return f"{units.percent_text(spread.mean, spread.sd)}%" if spread else units.MISSING
