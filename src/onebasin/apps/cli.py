"""The command `onebasin`: run, compare, merge, export, report, list. Each command imports only what it needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer

from onebasin import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train one model across many devices that each start from their own weights, and count every byte.",
)

Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045 (typer reads the annotation)
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes, such as training.lr=0.1 or method.uplink=int8."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onebasin {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train one model across many devices that each start from their own weights, and count every byte."""


@app.command()
def run(
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="METHOD.toml|NAME", help="A configuration, or a method's name."),
    ] = None,
    overrides: Overrides = None,
    out: Annotated[Optional[Path], typer.Option(help="The run directory [runs/LABEL-HASH].")] = None,  # noqa: UP045
    resume: Annotated[Optional[Path], typer.Option(help="Resume the run in this directory.")] = None,  # noqa: UP045
) -> None:
    """Run one configuration, and write a run directory."""
    with _short_errors():
        from onebasin.apps.terminal import run_with_display

        changes = list(overrides or [])
        if resume and source and "=" in source:
            changes.insert(0, source)
            source = None
        if resume and out:
            raise ValueError("--out and --resume exclude each other: a resumed run stays in its directory")
        run_with_display(source, changes, out, resume)


@app.command()
def compare(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="A grid of runs.")],
    overrides: Overrides = None,
    out: Annotated[Optional[Path], typer.Option(help="Where the run directories go [runs/STUDY].")] = None,  # noqa: UP045
    jobs: Annotated[int, typer.Option(min=0, help="Runs at the same time; 0 for one per core.")] = 0,
    results: Annotated[Optional[Path], typer.Option(help="Also write one JSON file per run here.")] = None,  # noqa: UP045
) -> None:
    """Run the unfinished runs of a study, print a table and write a report."""
    with _short_errors():
        from onebasin.apps.compare import compare_runs

        compare_runs(study, overrides or [], out or Path("runs") / study.stem, jobs, results)


@app.command()
def merge(
    files: Annotated[
        list[Path], typer.Argument(metavar="A B ...", help="Safetensors files of one model, or run directories.")
    ],
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="package.module:factory; with --data, a built-in model's name. Run directories know theirs."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("merged.safetensors"),
    data: Annotated[Optional[str], typer.Option(help="A data set, for scores and pictures: name or factory.")] = None,  # noqa: UP045
    inputs: Annotated[Optional[Path], typer.Option(help="Unlabelled examples, a .npy array.")] = None,  # noqa: UP045
    weights: Annotated[Optional[str], typer.Option(help="The weights of the models, such as 3,1.")] = None,  # noqa: UP045
    way: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="average, repair, rescale, norm-reset or least-squares [the one that differs least]."),
    ] = None,
    refine: Annotated[bool, typer.Option(help="Optimise all permutations jointly afterwards; slow.")] = False,
    picture: Annotated[Optional[Path], typer.Option(help="Where the picture goes [beside OUT].")] = None,  # noqa: UP045
) -> None:
    """Merge models that were trained separately: align their neurons, average, repair."""
    with _short_errors():
        from onebasin.apps.merge import MergeRequest, merge_files
        from onebasin.results.model_files import read_weights

        merge_files(MergeRequest(files, model, out, data, inputs, read_weights(weights), way, refine, picture))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a finished run.")],
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as model.obm.")],
    kind: Annotated[str, typer.Option("--as", metavar="seed-mask|safetensors|onnx", help="What to write.")],
) -> None:
    """Write a run's final model as one file: a seed and a mask (supermasks), all weights, or an ONNX graph."""
    with _short_errors():
        from onebasin.results.exports.command import export_run

        typer.echo(export_run(run, kind, out))


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with run directories in it.")],
    kind: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--as", metavar="html|pdf|slides", help="What to write [all three, PDFs where typst is there]."),
    ] = None,
    text: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FOLDER", help="A folder with report.typ or slides.typ, and results.toml: your own text about DIR."
        ),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A folder, or the file to write; a .png has the frontier alone [DIR, or FOLDER]."),
    ] = None,
    against: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="KEY", help="Draw accuracy against a setting, such as task.clients or a.b*a.c, instead."),
    ] = None,
) -> None:
    """Write an HTML page, a PDF and slides about the runs in a folder, or draw one picture of them."""
    with _short_errors():
        if against:
            from onebasin.report.against import write_against

            typer.echo(write_against(directory, against, out))
            return
        from onebasin.report.command import report as written

        for line in written(directory, kind, text, out):
            typer.echo(line)


@app.command("list")
def list_names(
    what: Annotated[
        str,
        typer.Argument(
            metavar="methods|datasets|partitions|models|codecs|combine|objectives|parametrizations|optimizers|engines"
        ),
    ],
) -> None:
    """List what a configuration can name."""
    with _short_errors():
        from onebasin.apps.list_names import print_names

        print_names(what)


@contextmanager
def _short_errors() -> Iterator[None]:
    """Print the message of an expected error and exit; only unexpected errors show a traceback."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from None


def main() -> None:
    """The entry point of the `onebasin` command."""
    app()
