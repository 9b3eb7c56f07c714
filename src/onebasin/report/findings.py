"""Sentences about a comparison: its scope, its main findings, and its limitations."""

from __future__ import annotations

from collections.abc import Sequence

from onebasin.report import units
from onebasin.report.arms import Arm, Section, seed_of
from onebasin.report.baseline import saving, section_baseline

_ONE_POINT = 0.01


def lead_sentence(all_sections: Sequence[Section]) -> str:
    """Return the number of runs and tasks."""
    runs = units.plural(sum(len(section.runs) for section in all_sections), "run")
    return f"{runs} on {units.plural(len(all_sections), 'task')}: accuracy, and the bytes it cost."


def scope_sentence(section: Section, baseline: str | None = None) -> str:
    """Return the number of arms, references and seeds, and the baseline of the savings."""
    base = section_baseline(section, baseline)
    federated = sum(not arm.is_reference for arm in section.arms)
    seeds = sorted({len(arm.runs) for arm in section.arms})
    span = units.plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    text = f"{units.plural(federated, 'federated arm')} and {units.plural(len(section.arms) - federated, 'reference')}"
    return f"{text}, {span} each." + (f" Savings are measured against {base.label}." if base else "")


def findings(section: Section, baseline: str | None = None) -> list[str]:
    """Return sentences on the most accurate federated arm, the cheapest within one point of it, and the references."""
    base = section_baseline(section, baseline)
    sentences = []
    scored = [(a.mean, arm) for arm in section.arms if not arm.is_reference and (a := arm.accuracy())]
    if scored:
        top, best = max(scored, key=lambda pair: pair[0])
        sentences.append(f"Highest final accuracy of the federated arms: {_with_cost(best, base)}.")
        costs = [(b.mean, arm) for mean, arm in scored if mean >= top - _ONE_POINT and (b := arm.bytes())]
        cheapest = min(costs, key=lambda pair: pair[0])[1] if costs else best
        if cheapest is not best:
            sentences.append(f"Fewest bytes within one point of it: {_with_cost(cheapest, base)}.")
        elif len(scored) > 1:
            sentences.append("No arm within one point of it took fewer bytes.")
    references = [f"{arm.label} {_accuracy(arm)}" for arm in section.arms if arm.is_reference and arm.finished]
    if references:
        sentences.append(f"References, for which no model travels: {'; '.join(references)}.")
    return sentences


def warnings(section: Section) -> list[str]:
    """Return sentences on what limits the comparison.

    They name single seeds, unequal seeds, unfinished and duplicate runs, several commits and uncommitted changes.
    """
    sentences = []
    seeds = {arm.label: {seed_of(run) for run in arm.finished} for arm in section.arms if arm.finished}
    single = [label for label, arm_seeds in seeds.items() if len(arm_seeds) == 1]
    if single:
        which = "Every arm" if len(single) == len(seeds) else ", ".join(single)
        sentences.append(f"One seed only: {which}. There is no spread; small differences may be chance.")
    if len({frozenset(arm_seeds) for arm_seeds in seeds.values()}) > 1:
        sentences.append("The arms were not all run with the same seeds.")
    unfinished = sum(len(arm.unfinished) for arm in section.arms)
    if unfinished:
        sentences.append(f"{units.plural(unfinished, 'run')} not finished: not counted in the tables.")
    if section.duplicates:
        sentences.append(f"{units.plural(section.duplicates, 'run')} left out: same configuration and seed as another.")
    commits = {str(commit) for run in section.runs if (commit := run.summary.get("environment", {}).get("commit"))}
    if len(commits) > 1:
        sentences.append(f"The runs come from {len(commits)} commits: {', '.join(sorted(commits))}.")
    if any(commit.endswith("-dirty") for commit in commits):
        sentences.append("Some runs come from a checkout with uncommitted changes (-dirty).")
    return sentences


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
