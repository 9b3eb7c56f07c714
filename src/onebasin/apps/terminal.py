"""The live display of one run on the terminal, and the table of its result."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from onebasin.apps.run import configure, default_directory, run
from onebasin.federation.run_config import RunConfig
from onebasin.report.units import byte_text, target_text
from onebasin.results.records import load_run


class Display:
    """A progress bar with round, replies, accuracy and bytes; failures are printed as lines above it."""

    def __init__(self, console: Console, title: str, rounds: int) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("round {task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[answered]}"),
            TextColumn("[green]{task.fields[accuracy]}"),
            TextColumn("[cyan]{task.fields[bytes]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task(escape(title), total=rounds, answered="", accuracy="", bytes="")

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_reply(self, round: int, answered: int, asked: int) -> None:
        self._bar.update(self._task, completed=round - 1, answered=f"{answered}/{asked} clients")

    def on_round(self, record: dict[str, Any]) -> None:
        accuracy = "" if record["accuracy"] is None else f"{record['accuracy']:.1%}"
        total = byte_text(record["bytes"]["total"])
        self._bar.update(self._task, completed=record["round"], accuracy=accuracy, bytes=total)
        for failure in record["failures"]:
            reason = escape(failure["reason"])
            self._bar.print(f"[yellow]round {record['round']}, client {failure['client']}: {reason}[/]")


class Interrupted(RuntimeError):
    """A run that the user stopped; the message says how to resume it."""


def run_with_display(source: str | None, overrides: Sequence[str], out: Path | None, resume: Path | None) -> None:
    """Run or resume a configuration with a display on the terminal, and print its result.

    With ``engine=flower``, the run is submitted to a SuperLink. Arguments and errors: as in `apps.run.run`.
    """
    console = Console()
    config = configure(source, overrides, resume)
    directory = resume or out or default_directory(config)
    if config.engine.kind == "flower":
        _submit(config, directory, console)
        return
    try:
        with Display(console, config.title, config.federation.rounds) as display:
            result = run(config, out=out, resume=resume, observers=[display])
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; to go on from the last round: onebasin run --resume {directory}") from None
    console.print(summary_table(result.summary))
    console.print(f"run directory: {result.directory}", soft_wrap=True)


def _submit(config: RunConfig, directory: Path, console: Console) -> None:
    """Submit the run to a SuperLink, follow it to its end, and print its result if it is on this machine."""
    from onebasin.apps.flower.submit import submit

    submit(config, directory)
    if (directory / "summary.json").exists():
        console.print(summary_table(load_run(directory).summary))


def summary_table(summary: dict[str, Any]) -> Table:
    """Return the content of `summary.json` as a table."""
    table = Table(
        title=f"{escape(summary['label'])} on {summary['dataset']}, seed {summary['seed']}", show_header=False
    )
    accuracy, cost = summary["accuracy"], summary["bytes"]
    table.add_row("final accuracy", "not scored" if accuracy["final"] is None else f"{accuracy['final']:.2%}")
    table.add_row("bytes, all clients", f"{byte_text(cost['total'])} ({cost['total']:,})")
    parts = ", ".join(f"{name} {byte_text(cost[name])}" for name in ("up", "down", "init", "align"))
    table.add_row("of which", parts)
    table.add_row("with multicast downlink", byte_text(cost["total_multicast"]))
    decoded = summary["decoded"]
    if replies := sum(decoded.values()):
        table.add_row("replies decoded as coded", f"{decoded['equal']:,} of {replies:,}")
    for target, needed in summary["bytes_to_target"].items():
        table.add_row(f"bytes to {target_text(target)}", "not reached" if needed is None else byte_text(needed))
    if "privacy" in summary:
        spent = summary["privacy"]
        budget = (
            "no noise" if spent["epsilon"] is None else f"epsilon {spent['epsilon']:.3g} at delta {spent['delta']:g}"
        )
        table.add_row("privacy of a client", f"{budget}, after {spent['rounds']} rounds; noise at the {spent['noise']}")
    if summary["failures"]:
        table.add_row("failures", str(summary["failures"]))
    table.add_row("seconds", f"{summary['seconds']:.1f}")
    return table
