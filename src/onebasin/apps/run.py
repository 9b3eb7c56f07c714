"""Starting and resuming a run."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from onebasin.core.settings import ConfigError
from onebasin.core.state import State
from onebasin.federation.dropout import DropoutEngine
from onebasin.federation.engine import Engine
from onebasin.federation.engines.flower import DIGEST_FILE, Link
from onebasin.federation.read_config import Source, read_config
from onebasin.federation.round_loop import Observer, federate
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.load_task import load_task
from onebasin.learning.parametrization import fold
from onebasin.learning.task import Task
from onebasin.networks.weights import buffers_of, copy_into, parameters_of
from onebasin.results.checkpoint import Checkpoint
from onebasin.results.run_directory import RunDirectory, RunDirectoryError
from onebasin.results.summary import summarise
from onebasin.results.trackers import check_trackers, open_trackers
from onebasin.wire.ledger import Ledger


@dataclass(frozen=True)
class Run:
    """A finished run.

    directory: the run directory.
    config: the configuration.
    history: the records of all rounds.
    summary: the content of `summary.json`.
    ledger: totals of all bytes.
    model: the global model, or that of centralised training; None if each client has its own.
    """

    directory: Path
    config: RunConfig
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    ledger: Ledger
    model: nn.Module | None


def run(
    source: Source | None = None,
    overrides: Iterable[str] = (),
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    observers: Sequence[Observer] = (),
    link: Link | None = None,
) -> Run:
    """Run a configuration to its end in a new run directory, or resume a run, and return the result.

    source: a RunConfig, a mapping, the path of a TOML file, or the name of a method.
    overrides: changes, such as ``"training.lr=0.1"``.
    out: the run directory; None for ``runs/<label>-<hash>``.
    resume: the directory of a run to continue instead. `source` may then be left out, or must describe the same run;
    the engine may differ.
    observers: informed of replies and rounds.
    link: the connection to a SuperLink, for the Flower engine.
    Errors: `ConfigError`, `RunDirectoryError`, `EngineError`, those of the task.
    """
    config = configure(source, overrides, resume)
    check_trackers(config)
    task = load_task(config)
    server, ledger, checkpoint = Server(config, task), Ledger(), None
    with ExitStack() as resources:
        if resume is None:
            path = Path(out) if out else default_directory(config)
            directory = RunDirectory.create(path, config, task.holdings())
        else:
            directory, checkpoint = reopen(Path(resume), config)
        resources.callback(directory.close)
        trackers = open_trackers(config, directory.path)
        for tracker in trackers:
            resources.callback(tracker.close)
        engine = open_engine(config, task, link)
        resources.callback(engine.close)
        if checkpoint:
            server.state, ledger = checkpoint.server, checkpoint.ledger
            engine.restore(directory.path / "checkpoint", checkpoint.clients)
        federate(server, engine, task, ledger, directory, [*observers, *trackers])
        model = final_model(server, engine, task)
        summary = directory.read_summary()
        if summary is None:
            summary = summarise(config, task, server.protocol.parameters.numel, directory.history)
            if model is not None:
                directory.write_model(model)
            directory.write_summary(summary)
    return Run(directory.path, config, directory.history, summary, ledger, model)


def configure(source: Source | None, overrides: Iterable[str], resume: str | Path | None) -> RunConfig:
    """Return the configuration in `source`; without one, that of the run to resume. Errors: as in `run`."""
    if source is None:
        if resume is None:
            raise ConfigError("nothing to run: give a method's name or a configuration, or a run to resume")
        source = RunDirectory.config_path(Path(resume))
    return read_config(source, overrides)


def reopen(path: Path, config: RunConfig) -> tuple[RunDirectory, Checkpoint | None]:
    """Open the directory of a run, and return it with its last checkpoint, None for none.

    Raises RunDirectoryError if the directory has another run than `config`, or client states of another engine.
    """
    stored = read_config(RunDirectory.config_path(path))
    if stored.identity() != config.identity():
        raise RunDirectoryError(f"{path} holds another run ({stored.identity()}) than this ({config.identity()})")
    directory, checkpoint = RunDirectory.reopen(path, config)
    for name in checkpoint.clients.values() if checkpoint else ():
        if name.startswith(DIGEST_FILE) != (config.engine.kind == "flower"):
            directory.close()
            where = "on Flower's nodes" if name.startswith(DIGEST_FILE) else "in the run directory"
            raise RunDirectoryError(
                f"{path}: what clients remember is {where}; engine={config.engine.kind!r} has no way there"
            )
    return directory, checkpoint


def default_directory(config: RunConfig) -> Path:
    """Return ``runs/<label>-<hash>``, with the label in lower case and dashes."""
    words = "".join(c if c.isalnum() else " " for c in config.title.lower()).split()
    return Path("runs") / f"{'-'.join(words)}-{config.identity()[:8]}"


def open_engine(config: RunConfig, task: Task, link: Link | None = None) -> Engine:
    """Return the engine of a configuration, with simulated dropouts if it has any. link: as in `run`."""
    engine = config.engine.open(config, task, link)
    if config.federation.dropout and config.method.federated:
        return DropoutEngine(engine, config.federation.dropout, config.seed)
    return engine


def final_model(server: Server, engine: Engine, task: Task) -> nn.Module | None:
    """Return the global model, or that of centralised training, as a plain module; None if each client has its own."""
    slots = server.state.slots
    if server.method.data == "pooled" and not server.method.federated:
        slots = State.from_bytes(engine.read_state(0)).slots
    if server.method.personal or "weights" not in slots:
        return None
    model = task.workspace()
    copy_into(parameters_of(model), slots["weights"])
    copy_into(buffers_of(model), slots["buffers"])
    return fold(model).eval()
