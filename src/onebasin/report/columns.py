"""The columns of the comparison table, for the terminal, the HTML page, PDF documents and Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onebasin.report import units
from onebasin.report.arms import Arm, Section, Spread, planned_rounds
from onebasin.report.baseline import saving, section_baseline

ARM = "arm"


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its text, the number by which it is sorted, and a note in small print."""

    text: str
    value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    cell: returns the column's cell of an arm. removal_order: on a narrow terminal the column with the highest number
    is removed first; 0 is never removed. group: "outcome" for accuracy and total cost, "cost" for the parts of the
    bytes and the time. meaning: what the heading means, in words.
    """

    heading: str
    cell: Callable[[Arm], Cell]
    removal_order: int
    group: str = "outcome"
    meaning: str = ""


def columns(section: Section, baseline: str | None = None) -> list[Column]:
    """Return the columns for a section; `baseline`: the label of the baseline arm (default: see `find_baseline`)."""
    base = section_baseline(section, baseline)
    listed = [
        Column(ARM, _name, 0),
        Column(
            "final %",
            _accuracy("final"),
            0,
            meaning="test accuracy after the last round, mean ± sd over seeds",
        ),
        Column("last 10 %", _accuracy("last10"), 6, meaning="mean of the last ten evaluated rounds"),
        Column(
            "best %",
            _accuracy("best"),
            9,
            meaning="best over rounds: flatters, since it looks at the test set",
        ),
        Column(
            "total",
            _bytes("total"),
            1,
            meaning="everything that crossed, both ways, all clients, headers too",
        ),
    ]
    if base:
        meaning = f"total bytes of {base.label} divided by total bytes of the arm"
        listed.append(Column(f"fewer than {base.label}", lambda arm: _saving(arm, base), 2, meaning=meaning))
    for index, target in enumerate(section.targets):
        harder_targets = len(section.targets) - 1 - index
        meaning = f"total bytes when {units.target_text(target)} was first reached; (k/n): by k of n seeds"
        heading = f"to {units.target_text(target)}"
        listed.append(Column(heading, _to_target(target, base), min(3 + harder_targets, 5), meaning=meaning))
    return [
        *listed,
        Column("up", _bytes("up"), 10, "cost", "from clients to server"),
        Column("down", _bytes("down"), 10, "cost", "from server to clients, each client's copy counted"),
        Column("init + align", _init_and_align, 11, "cost", "initial weights and what aligning neurons took"),
        Column(
            "multicast",
            _bytes("total_multicast"),
            12,
            "cost",
            "the total if one downlink reached all clients",
        ),
        Column("rounds", _rounds, 7, "cost"),
        Column("time", _seconds, 8, "cost", "on the machine named below"),
    ]


def _name(arm: Arm) -> Cell:
    rounds = ", ".join(f"{len(run.history)} of {planned_rounds(run) or '?'}" for run in arm.unfinished)
    seeds = [units.plural(len(arm.finished), "seed")] if arm.finished else []
    pending = [f"{len(arm.unfinished)} unfinished, at round {rounds}"] if arm.unfinished else []
    return Cell(arm.label, note="; ".join(seeds + pending))


def _accuracy(which: str) -> Callable[[Arm], Cell]:
    def cell(arm: Arm) -> Cell:
        spread = arm.accuracy(which)
        return Cell(units.percent_text(spread.mean, spread.sd), spread.mean) if spread else Cell(units.MISSING)

    return cell


def _bytes(kind: str) -> Callable[[Arm], Cell]:
    return lambda arm: Cell("none") if arm.is_reference and arm.finished else _byte_cell(arm.bytes(kind))


def _byte_cell(spread: Spread | None) -> Cell:
    return Cell(units.byte_text(spread.mean), spread.mean) if spread else Cell(units.MISSING)


def _init_and_align(arm: Arm) -> Cell:
    init, align = arm.bytes("init"), arm.bytes("align")
    if init is None or align is None:
        return _bytes("init")(arm)
    return Cell(units.byte_text(init.mean + align.mean), init.mean + align.mean)


def _saving(arm: Arm, base: Arm) -> Cell:
    ratio = saving(arm, base)
    return Cell(units.times_text(ratio), ratio)


def _to_target(target: str, base: Arm | None) -> Callable[[Arm], Cell]:
    def cell(arm: Arm) -> Cell:
        cost = arm.bytes_to_target(target)
        if arm.is_reference or not cost.n:
            return Cell(units.MISSING)
        if cost.spread is None:
            return Cell("never")
        share = "" if cost.reached_by_all else f" ({cost.reached}/{cost.n})"
        ratio = saving(arm, base, target)
        note = units.ratio_words(ratio) if ratio and arm is not base else ""
        return Cell(units.byte_text(cost.spread.mean) + share, cost.spread.mean, note)

    return cell


def _rounds(arm: Arm) -> Cell:
    rounds = arm.summary_value("rounds")
    return Cell(f"{rounds.mean:g}", rounds.mean) if rounds else Cell(units.MISSING)


def _seconds(arm: Arm) -> Cell:
    seconds = arm.summary_value("seconds")
    return Cell(units.seconds_text(seconds.mean), seconds.mean) if seconds else Cell(units.MISSING)
