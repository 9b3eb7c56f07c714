"""What a user waits for before anything happens."""

import subprocess
import sys
from statistics import median
from time import perf_counter

from rich.console import Console
from rich.table import Table

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import onebasin": ["-c", "import onebasin"],
    "onebasin --help": ["-m", "onebasin", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Return the wall-clock seconds of one Python process."""
    began = perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - began


def main() -> None:
    table = Table(title="start-up, seconds, median of 7")
    for name, arguments in COMMANDS.items():
        table.add_row(name, f"{median(seconds(arguments) for _ in range(7)):.3f}")
    Console().print(table)
