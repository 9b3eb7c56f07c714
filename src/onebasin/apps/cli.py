"""The command: run, compare, merge, export, report, list. What a command does not need, it does not import."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer

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


@app.command()
def run(
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="METHOD.toml|NAME", help="A configuration, or a method's name."),
    ] = None,
    overrides: Overrides = None,
    out: Annotated[Optional[Path], typer.Option(help="The run directory [runs/LABEL-HASH].")] = None,  # noqa: UP045
    resume: Annotated[Optional[Path], typer.Option(help="Go on with the run in this directory.")] = None,  # noqa: UP045
) -> None:
    """Train with one method; leave a run directory."""
    with _clear_errors():
        from onebasin.apps.terminal import play

        changes = list(overrides or [])
        if resume and source and "=" in source:
            changes.insert(0, source)
            source = None
        if resume and out:
            raise ValueError("--out and --resume exclude each other: a resumed run stays in its directory")
        play(source, changes, out, resume)


@app.command()
def compare(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="A grid of runs.")],
    overrides: Overrides = None,
    out: Annotated[Optional[Path], typer.Option(help="Where the run directories go [runs/STUDY].")] = None,  # noqa: UP045
    jobs: Annotated[int, typer.Option(min=0, help="Runs at a time; 0 for one a core.")] = 0,
    results: Annotated[Optional[Path], typer.Option(help="Also write one JSON file a run here.")] = None,  # noqa: UP045
) -> None:
    """Run a study's grid; what is already done is not done again. Ends with a table and a report."""
    with _clear_errors():
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
    data: Annotated[Optional[str], typer.Option(help="A data set's name or factory: scores and pictures.")] = None,  # noqa: UP045
    inputs: Annotated[Optional[Path], typer.Option(help="Unlabelled examples, a .npy array.")] = None,  # noqa: UP045
    weights: Annotated[Optional[str], typer.Option(help="How much each model counts, such as 3,1.")] = None,  # noqa: UP045
    way: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="average, repair, rescale, norm-reset or least-squares [the one that differs least]."),
    ] = None,
    refine: Annotated[bool, typer.Option(help="Move all models together afterwards; slow.")] = False,
    picture: Annotated[Optional[Path], typer.Option(help="Where the picture goes [beside OUT].")] = None,  # noqa: UP045
) -> None:
    """Merge models that were trained apart: find their neurons' common order, average, repair."""
    with _clear_errors():
        from onebasin.apps.merge import Request, merge_files
        from onebasin.results.model_files import read_weights

        merge_files(Request(files, model, out, data, inputs, read_weights(weights), way, refine, picture))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a finished run.")],
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as model.obm.")],
    kind: Annotated[str, typer.Option("--as", metavar="seed-mask|safetensors|onnx", help="What to write.")],
) -> None:
    """Write a run's final model as one file: a seed and a mask (supermasks), all weights, or an ONNX graph."""
    with _clear_errors():
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
        typer.Option(metavar="FOLDER", help="Set this text of your own, with its results.toml, about DIR's folders."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A folder, or the file to write; a .png is the frontier alone [in DIR, or FOLDER]."),
    ] = None,
    against: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="KEY", help="Draw accuracy against a setting, such as task.clients or a.b*a.c, instead."),
    ] = None,
) -> None:
    """Write an HTML page, a PDF and slides about the runs in a folder, or draw one picture of them."""
    with _clear_errors():
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
    with _clear_errors():
        from onebasin.apps.list_names import print_names

        print_names(what)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Say what is wrong in one message; a traceback is for our own mistakes, not for the user's."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from None


def main() -> None:
    """The entry point of the `onebasin` command."""
    app()
