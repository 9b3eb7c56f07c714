"""The columns of a comparison, and what each says of an arm: one source for terminal, page and Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onebasin.report import units
from onebasin.report.arms import Arm, Section, Spread, planned_rounds
from onebasin.report.baseline import saving, section_baseline

ARM = "arm"


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table: its text, the number it sorts by, and a small remark."""

    text: str
    value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Column:
    """One column. `rank` says what to give up first on a narrow terminal (highest first); 0 always stays.

    group: "outcome" for what was learned and at what cost, "cost" for where the bytes and the time went.
    """

    heading: str
    cell: Callable[[Arm], Cell]
    rank: int
    group: str = "outcome"
    meaning: str = ""


def columns(section: Section, baseline: str | None = None) -> list[Column]:
    """The columns for a section; savings are against the arm called `baseline`, or the one that is found."""
    base = section_baseline(section, baseline)
    versus = f"fewer than {base.label}" if base else ""
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
        listed.append(Column(versus, lambda arm: _saving(arm, base), 2, meaning=meaning))
    for place, target in enumerate(section.targets):
        easier = len(section.targets) - 1 - place
        meaning = f"total bytes when {units.target_text(target)} was first reached; (k/n): by k of n seeds"
        heading = f"to {units.target_text(target)}"
        listed.append(Column(heading, _to_target(target, base), min(3 + easier, 5), meaning=meaning))
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
        reach = arm.bytes_to(target)
        if arm.is_reference or not reach.n:
            return Cell(units.MISSING)
        if reach.spread is None:
            return Cell("never")
        share = "" if reach.all else f" ({reach.reached}/{reach.n})"
        ratio = saving(arm, base, target)
        note = units.ratio_words(ratio) if ratio and arm is not base else ""
        return Cell(units.byte_text(reach.spread.mean) + share, reach.spread.mean, note)

    return cell


def _rounds(arm: Arm) -> Cell:
    rounds = arm.measure("rounds")
    return Cell(f"{rounds.mean:g}", rounds.mean) if rounds else Cell(units.MISSING)


def _seconds(arm: Arm) -> Cell:
    seconds = arm.measure("seconds")
    return Cell(units.seconds_text(seconds.mean), seconds.mean) if seconds else Cell(units.MISSING)
