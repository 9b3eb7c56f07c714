"""The app of the SuperLink: it starts a run in its run directory, or resumes the run that is there."""

from typing import Any

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from onebasin.apps.flower.grid_link import GridLink
from onebasin.apps.flower.settings import read_settings
from onebasin.apps.run import default_directory, run
from onebasin.report.units import byte_text

app = ServerApp()


class LogObserver:
    """Prints a line per round, which Flower shows to users who follow the run."""

    def on_reply(self, round: int, answered: int, asked: int) -> None: ...

    def on_round(self, record: dict[str, Any]) -> None:
        accuracy = "not scored" if record["accuracy"] is None else f"{record['accuracy']:.1%}"
        total = byte_text(record["bytes"]["total"])
        print(f"round {record['round']}: {record['replies']} replies, {accuracy}, {total} so far", flush=True)
        for failure in record["failures"]:
            print(f"round {record['round']}, client {failure['client']}: {failure['reason']}", flush=True)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the remaining rounds."""
    torch.set_num_threads(1)  # as the clients, so that all engines give equal bits
    settings = read_settings(context.run_config)
    directory = settings.directory or default_directory(settings.config)
    exists = (directory / "config.toml").exists()
    result = run(
        settings.config,
        out=None if exists else directory,
        resume=directory if exists else None,
        observers=[LogObserver()],
        link=GridLink(grid),
    )
    print(f"run directory: {result.directory.absolute()}", flush=True)
