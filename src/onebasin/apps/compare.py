"""Running a study: every core has a run, what is done is skipped, what was cut off goes on."""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from onebasin.apps.run import default_directory, run
from onebasin.apps.study import read_study
from onebasin.core.atomic_write import write_atomically
from onebasin.federation.run_config import RunConfig
from onebasin.report.units import byte_text, plural
from onebasin.results.records import RunRecord, load_result, load_run, write_result


class StudyError(RuntimeError):
    """Runs of a study that failed; the others are done."""


def compare_runs(study_path: Path, overrides: Sequence[str], out: Path, jobs: int, results: Path | None) -> None:
    """Run what is left of the study, print the table and write the report. `StudyError` if a run failed.

    results: a folder where each finished run is also kept as one file. A run that is kept there is done: its file is
    copied to `out`, and counts as its directory would.
    """
    console = Console()
    study, configs = read_study(study_path, overrides)
    homes = {config.identity(): find_home(config, out) for config in configs}
    left = [config for config in configs if not _is_done(config, homes[config.identity()], results, out)]
    console.print(f"{escape(study.title)}: {len(configs)} runs, {len(configs) - len(left)} done, {len(left)} to go")
    failed = _run_all(left, homes, jobs or os.cpu_count() or 1, results, console)
    records = [record for identity, home in homes.items() if (record := _read(home, out / f"{identity}.json"))]
    if records:
        _report(records, out, console)
    if failed:
        raise StudyError("\n".join(f"{label}: {reason}" for label, reason in failed.items()))


def _is_done(config: RunConfig, home: Path, results: Path | None, out: Path) -> bool:
    """Whether this run is done: by its directory, which is then kept, or by a kept file, which is then fetched."""
    if (home / "summary.json").exists():
        _keep(home, results)
        return True
    name = f"{config.identity()}.json"
    if results and (results / name).exists():
        load_result(results / name)
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / name, (results / name).read_bytes())
    return (out / name).exists()


def _keep(home: Path, results: Path | None) -> None:
    """Write a finished run's result where results are kept, if they are."""
    if results:
        results.mkdir(parents=True, exist_ok=True)
        write_result(load_run(home), results)


def _read(home: Path, result: Path) -> RunRecord | None:
    """Return a run from its directory or its result, the finished one of both; None where it has not begun."""
    if result.exists() and not (home / "summary.json").exists():
        return load_result(result)
    return load_run(home) if (home / "config.toml").exists() else None


def _report(records: Sequence[RunRecord], out: Path, console: Console) -> None:
    from onebasin.report.page import write_report
    from onebasin.report.table import comparison_table

    console.print(comparison_table(records))
    console.print(f"report: {write_report(out)}", soft_wrap=True)


def find_home(config: RunConfig, out: Path) -> Path:
    """Return the directory under `out` that has this run, whatever its label was, or the one it will get."""
    expected = out / default_directory(config).name
    known = sorted(out.glob(f"*-{config.identity()[:8]}/config.toml"))
    return known[0].parent if known else expected


def _run_all(
    configs: Sequence[RunConfig], homes: dict[str, Path], jobs: int, results: Path | None, console: Console
) -> dict[str, str]:
    """Run the configurations, `jobs` at a time, each kept when it ends; return the reasons of those that failed."""
    failed: dict[str, str] = {}
    if not configs:
        return failed
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} runs"))
    with (
        Progress(*columns, TimeElapsedColumn(), console=console) as bar,
        ProcessPoolExecutor(min(jobs, len(configs)), get_context("spawn"), initializer=_end_with_parent) as pool,
    ):
        overall = bar.add_task("comparing", total=len(configs))
        futures: dict[Future[str], RunConfig] = {
            pool.submit(_run_one, config.to_toml(), homes[config.identity()]): config for config in configs
        }
        for future in as_completed(futures):
            config = futures[future]
            name = f"{config.title}, seed {config.seed}"
            try:
                bar.print(f"{escape(name)}: {future.result()}")
                _keep(homes[config.identity()], results)
            except BrokenProcessPool:
                failed[name] = "its process was killed; run the same command again to go on from the last checkpoint"
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {error}"
                bar.print(f"[red]{escape(f'{name}: {failed[name]}')}[/]")
            bar.advance(overall)
    return failed


def _end_with_parent() -> None:
    """Let this worker die when its parent does, however that was killed: nobody would hear of what it still does."""

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    parent = parent_process()
    if parent is not None:
        Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _run_one(toml: str, home: Path) -> str:
    """Run or resume one configuration in this worker process; return a line about it."""
    import tomllib

    started = (home / "config.toml").exists()
    source = tomllib.loads(toml)
    result = run(source, resume=home) if started else run(source, out=home)
    accuracy = result.summary["accuracy"]["final"]
    score = "not scored" if accuracy is None else f"{accuracy:.1%}"
    line = f"{score} for {byte_text(result.summary['bytes']['total'])}"
    failures = result.summary["failures"]
    return f"{line}; {plural(failures, 'failure')}, with reasons in the report" if failures else line
