"""The pool of two workers against the single process, on the same rounds; the clock on the wall, in turn."""

from statistics import median
from time import perf_counter

from rich.console import Console
from rich.table import Table

from benchmarks.workload import EXAMPLES, make_config, ratio
from onebasin.federation.client.client import Client
from onebasin.federation.engine import Engine
from onebasin.federation.engines.pool import Pool
from onebasin.federation.engines.single import InProcess
from onebasin.federation.server.server import Server
from onebasin.learning.load_task import load_task

CLIENTS, REPEATS = 10, 7
WORKLOAD = f"benchmarks.workload:dataset_of_{CLIENTS}_clients"


def main() -> None:
    config = make_config(
        clients=CLIENTS, task={"clients": CLIENTS, "model": "lenet5", "partition": "iid", "dataset": WORKLOAD}
    )
    task = load_task(config)
    engines: dict[str, Engine] = {
        "single process": InProcess(Client(config, task)),
        "pool of 2": Pool(config, dict.fromkeys(range(CLIENTS), EXAMPLES), 2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for repeat in range(REPEATS + 1):
        for name, engine in engines.items():
            orders = Server(config, task).open(1)
            began = perf_counter()
            list(engine.exchange(orders))
            if repeat:
                seconds[name].append(perf_counter() - began)
    for engine in engines.values():
        engine.close()
    table = Table(title=f"a round of {CLIENTS} clients, LeNet5, {EXAMPLES // 32} steps of 32 each")
    for name, values in seconds.items():
        table.add_row(name, f"{1000 * median(values):.0f} ms")
    table.add_row("single / pool", f"{ratio(seconds['single process'], seconds['pool of 2']):.2f}")
    Console().print(table)
