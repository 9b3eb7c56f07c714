"""The work that is timed: LeNet5 on random 28x28 images, so many clients with so many steps each."""

from collections.abc import Callable, Mapping
from statistics import median
from time import process_time

import torch

from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.data.load import Dataset, Split
from onebasin.learning.task import Task

BATCH = 32
EXAMPLES = 320


def dataset_of_10_clients() -> Dataset:
    """Return the images of 10 clients, for engines that load their task themselves."""
    return _dataset(10 * EXAMPLES)


def make_task(clients: int, examples: int = EXAMPLES) -> Task:
    """Return `clients` clients with `examples` random images each; they share one pool of images."""
    return Task(_dataset(examples), [torch.arange(examples)] * clients, "lenet5", {})


def _dataset(examples: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(examples, 1, 28, 28, generator=generator)
    targets = torch.randint(0, 10, (examples,), generator=generator)
    names = tuple(str(digit) for digit in range(10))
    return Dataset("random", Split(inputs, targets, None), Split(inputs[:10], targets[:10], None), names, (), 0, "here")


def make_config(method: str = "fedavg", clients: int = 10, **tables: object) -> RunConfig:
    """Return one epoch of SGD with momentum in batches of 32."""
    base = {
        "method": method,
        "task": {"clients": clients, "model": "lenet5", "partition": "iid"},
        "training": {"lr": 0.01, "momentum": 0.0 if method == "scaffold" else 0.9, "batch": BATCH},
    }
    return read_config(base | tables)


def time_in_turn(rounds: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the processor seconds of each, taken in turn and in turning order, after one that does not count.

    Processor time, because on a shared machine the clock on the wall also counts what others do.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rounds}
    names = list(rounds)
    for repeat in range(repeats + 1):
        for name in names:
            began = process_time()
            rounds[name]()
            if repeat:
                seconds[name].append(process_time() - began)
        names.append(names.pop(0))
    return seconds


def ratio(of: list[float], to: list[float]) -> float:
    """Return the median of the pairwise ratios."""
    return median(a / b for a, b in zip(of, to, strict=True))
