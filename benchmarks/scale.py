"""1,000 clients, 100 a round, 20 rounds in one process: where a round's processor time goes, and how memory fares."""

import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.hostile import resident
from benchmarks.workload import make_config, make_task
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.round_loop import federate
from onebasin.federation.server.server import Server
from onebasin.results.run_directory import RunDirectory
from onebasin.wire.ledger import Ledger

CLIENTS, COHORT, ROUNDS, EXAMPLES = 1000, 100, 20, 64
SHOWN = (1, 5, 10, 15, 20)
METHODS = {
    "fedavg, fp32": {"method": "fedavg"},
    "STC 1%, both ways": {
        "method": {
            "name": "stc",
            "uplink": "error-feedback | top-k 0.01 | sign",
            "downlink": "error-feedback | top-k 0.01 | sign",
        }
    },
    "own inits, signatures": {"method": {"name": "fedavg", "start": "local", "frame": "signatures"}},
    "fedavg, median": {"method": {"name": "fedavg", "combine": "median"}},
}
PARTS = ("train", "encode", "decode", "align and combine", "checkpoint", "all")


class Watch:
    """An observer that takes, round by round, the time of each part, and the memory."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.memory: list[float] = []
        self._spent: dict[str, float] = defaultdict(float)
        self._began = process_time()

    def time(self, owner: object, name: str, part: str) -> None:
        """Count what a method of an object takes."""
        method: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any) -> Any:
            began = process_time()
            try:
                return method(*arguments)
            finally:
                self._spent[part] += process_time() - began

        setattr(owner, name, timed)

    def on_reply(self, round: int, answered: int, asked: int) -> None:
        pass

    def on_round(self, record: dict[str, Any]) -> None:
        self._spent["all"] = process_time() - self._began
        for part in PARTS:
            self.seconds[part].append(self._spent[part])
        self.memory.append(resident() / 1e6)
        self._spent.clear()
        self._began = process_time()


def measure(tables: dict[str, Any], folder: Path) -> tuple[Watch, int]:
    """Play a run; return what was watched, and how many bytes its directory has."""
    federation = {"rounds": ROUNDS, "cohort": COHORT, "evaluate_every": ROUNDS}
    config, task = make_config(clients=CLIENTS, federation=federation, **tables), make_task(CLIENTS, EXAMPLES)
    client, server, watch = Client(config, task), Server(config, task), Watch()
    directory = RunDirectory.create(folder, config, task.holdings())
    for owner, name, part in (
        (client, "train", "train"),
        (client, "finish", "encode"),
        (server, "_order", "encode"),
        (client, "begin", "decode"),
        (server, "_checked", "decode"),
        (server.assembly, "frames_by_signature", "align and combine"),
        (server, "_next_slots", "align and combine"),
        (directory, "commit", "checkpoint"),
    ):
        watch.time(owner, name, part)
    federate(server, InProcess(client), task, Ledger(), directory, [watch])
    return watch, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    what = f"{CLIENTS:,} clients, {COHORT} a round, LeNet5, {EXAMPLES} examples each"
    times = Table(title=f"{what}: milliseconds of processor time a round, median of {ROUNDS}")
    memory = Table(title="MB in memory after a round, and on disk after the last")
    for table, columns in ((times, PARTS), (memory, [*map(str, SHOWN), "disk"])):
        table.add_column("")
        for column in columns:
            table.add_column(column, justify="right")
    for name, tables in METHODS.items():
        with tempfile.TemporaryDirectory() as folder:
            watch, size = measure(tables, Path(folder))
        times.add_row(name, *(f"{1000 * median(watch.seconds[part]):,.0f}" for part in PARTS))
        memory.add_row(name, *(f"{watch.memory[round - 1]:.0f}" for round in SHOWN), f"{size / 1e6:.0f}")
    Console().print(times, memory)


if __name__ == "__main__":
    main()
