"""Peak memory of whole rounds as clients grow in number; each figure from a process of its own."""

import resource
import subprocess
import sys

from rich.console import Console
from rich.table import Table

from benchmarks.workload import make_config, make_task
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.round_loop import in_order
from onebasin.federation.server.server import Server

COUNTS = (10, 100, 1000)
ROUNDS = 2
MEGABYTE = 1e6


def peak(method: str, clients: int) -> float:
    """Play two rounds with every client; return this process's peak memory in MB."""
    config, task = make_config(method, clients), make_task(clients, examples=32)
    server, engine = Server(config, task), InProcess(Client(config, task))
    for round in range(1, ROUNDS + 1):
        orders = server.open(round)
        server.close(in_order(orders, engine.exchange(orders)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE


def main() -> None:
    table = Table(title="peak memory in MB, LeNet5 (0.247 MB a model), single process")
    for column in ("method", "a client keeps", *(f"{count:,} clients" for count in COUNTS), "MB a further client"):
        table.add_column(column, justify="right")
    for method, keeps in (("fedavg", "nothing"), ("scaffold", "1 model")):
        command = [sys.executable, "-m", "benchmarks.memory", method]
        peaks = [float(subprocess.check_output([*command, str(count)])) for count in COUNTS]
        slope = (peaks[-1] - peaks[0]) / (COUNTS[-1] - COUNTS[0])
        table.add_row(method, keeps, *(f"{value:.0f}" for value in peaks), f"{slope:.3f}")
    Console().print(table)


if __name__ == "__main__":
    print(peak(sys.argv[1], int(sys.argv[2])))
