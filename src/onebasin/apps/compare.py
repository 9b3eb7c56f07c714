"""Running a study: one run per core; finished runs are skipped, interrupted ones are resumed."""

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
    """Some runs of a study failed; the others are finished. The message has the reasons."""


def compare_runs(study_path: Path, overrides: Sequence[str], out: Path, jobs: int, results: Path | None) -> None:
    """Run the unfinished runs of a study, print a table and write a report.

    study_path: the study's file. overrides: changes of every configuration.
    out: the folder of the run directories.
    jobs: number of runs at the same time; 0 for one per core.
    results: a folder to which a JSON file is written for each finished run; None for none. A run whose file is there
    counts as finished; its file is copied to `out`.
    Raises StudyError if a run failed; ConfigError if the study cannot be read.
    """
    console = Console()
    study, configs = read_study(study_path, overrides)
    directories = {config.identity(): find_directory(config, out) for config in configs}
    unfinished = [
        config for config in configs if not _is_finished(config, directories[config.identity()], results, out)
    ]
    finished = len(configs) - len(unfinished)
    console.print(f"{escape(study.title)}: {len(configs)} runs, {finished} done, {len(unfinished)} to go")
    failed = _run_all(unfinished, directories, jobs or os.cpu_count() or 1, results, console)
    read = (_read(directory, out / f"{identity}.json") for identity, directory in directories.items())
    records = [record for record in read if record]
    if records:
        _report(records, out, console)
    if failed:
        raise StudyError("\n".join(f"{label}: {reason}" for label, reason in failed.items()))


def _is_finished(config: RunConfig, directory: Path, results: Path | None, out: Path) -> bool:
    """Return whether a run is finished: its directory has a summary, or there is a file of its result.

    In the first case, the file of its result is written to `results`; in the second, it is copied to `out`.
    """
    if (directory / "summary.json").exists():
        _write_result(directory, results)
        return True
    name = f"{config.identity()}.json"
    if results and (results / name).exists():
        load_result(results / name)
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / name, (results / name).read_bytes())
    return (out / name).exists()


def _write_result(directory: Path, results: Path | None) -> None:
    """Write the result of a finished run as a file in `results`; None for no file."""
    if results:
        results.mkdir(parents=True, exist_ok=True)
        write_result(load_run(directory), results)


def _read(directory: Path, result: Path) -> RunRecord | None:
    """Return a run from its directory or, if it is not finished there, from the file of its result; None for none."""
    if result.exists() and not (directory / "summary.json").exists():
        return load_result(result)
    return load_run(directory) if (directory / "config.toml").exists() else None


def _report(records: Sequence[RunRecord], out: Path, console: Console) -> None:
    from onebasin.report.page import write_report
    from onebasin.report.table import comparison_table

    console.print(comparison_table(records))
    console.print(f"report: {write_report(out)}", soft_wrap=True)


def find_directory(config: RunConfig, out: Path) -> Path:
    """Return the directory in `out` that has this run, under any label; if there is none, the one to create."""
    new = out / default_directory(config).name
    existing = sorted(out.glob(f"*-{config.identity()[:8]}/config.toml"))
    return existing[0].parent if existing else new


def _run_all(
    configs: Sequence[RunConfig], directories: dict[str, Path], jobs: int, results: Path | None, console: Console
) -> dict[str, str]:
    """Run the configurations, `jobs` at the same time, and write each result; return the reason of each failure."""
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
            pool.submit(_run_one, config.to_toml(), directories[config.identity()]): config for config in configs
        }
        for future in as_completed(futures):
            config = futures[future]
            name = f"{config.title}, seed {config.seed}"
            try:
                bar.print(f"{escape(name)}: {future.result()}")
                _write_result(directories[config.identity()], results)
            except BrokenProcessPool:
                failed[name] = "its process was killed; run the same command again to go on from the last checkpoint"
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {error}"
                bar.print(f"[red]{escape(f'{name}: {failed[name]}')}[/]")
            bar.advance(overall)
    return failed


def _end_with_parent() -> None:
    """End this worker process when its parent ends, even if the parent is killed: its results would be lost."""

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    parent = parent_process()
    if parent is not None:
        Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


def _run_one(toml: str, directory: Path) -> str:
    """Run or resume one configuration in this worker process; return a line on its result."""
    import tomllib

    exists = (directory / "config.toml").exists()
    source = tomllib.loads(toml)
    result = run(source, resume=directory) if exists else run(source, out=directory)
    accuracy = result.summary["accuracy"]["final"]
    score = "not scored" if accuracy is None else f"{accuracy:.1%}"
    line = f"{score} for {byte_text(result.summary['bytes']['total'])}"
    failures = result.summary["failures"]
    return f"{line}; {plural(failures, 'failure')}, with reasons in the report" if failures else line
