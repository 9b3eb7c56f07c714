"""The app of the SuperLink: one run, begun in its run directory or gone on with."""

from typing import Any

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from onebasin.apps.flower.grid_link import GridLink
from onebasin.apps.flower.settings import read_settings
from onebasin.apps.run import default_directory, run
from onebasin.report.units import byte_text

app = ServerApp()


class Log:
    """An observer that writes a line a round, which Flower shows to whoever follows the run."""

    def on_reply(self, round: int, answered: int, asked: int) -> None: ...

    def on_round(self, record: dict[str, Any]) -> None:
        accuracy = "not scored" if record["accuracy"] is None else f"{record['accuracy']:.1%}"
        total = byte_text(record["bytes"]["total"])
        print(f"round {record['round']}: {record['replies']} replies, {accuracy}, {total} so far", flush=True)
        for failure in record["failures"]:
            print(f"round {record['round']}, client {failure['client']}: {failure['reason']}", flush=True)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Play the rounds that are left."""
    torch.set_num_threads(1)  # as clients do: all engines give equal bits
    settings = read_settings(context.run_config)
    directory = settings.directory or default_directory(settings.config)
    begun = (directory / "config.toml").exists()
    result = run(
        settings.config,
        out=None if begun else directory,
        resume=directory if begun else None,
        observers=[Log()],
        link=GridLink(grid),
    )
    print(f"run directory: {result.directory.absolute()}", flush=True)
