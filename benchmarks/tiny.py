"""A federation so small that a message takes a fraction of a millisecond: 29 parameters, 12 examples, BatchNorm too."""

import torch
from torch import nn

from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.data.load import Dataset, Split
from onebasin.learning.load_task import load_task
from onebasin.learning.task import Task


def dataset() -> Dataset:
    """Two kinds of four numbers."""
    targets = torch.arange(16) % 2
    inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)) + targets.view(-1, 1)
    train, test = Split(inputs[:12], targets[:12], None), Split(inputs[12:], targets[12:], None)
    return Dataset("tiny", train, test, ("one", "other"), (), 0, "made")


def network(data: Dataset, norm: bool = True) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3) if norm else nn.Identity(), nn.ReLU(), nn.Linear(3, 2))


def make(method: str, *choices: str) -> tuple[RunConfig, Task]:
    """Return a run of three rounds of one step among three clients, and its task."""
    base = {
        "method": method,
        "task": {
            "dataset": "benchmarks.tiny:dataset",
            "model": "benchmarks.tiny:network",
            "partition": "iid",
            "clients": 3,
        },
        "training": {"steps": 1, "batch": 4, "momentum": 0.0, "optimizer": "sgd"},
        "federation": {"rounds": 3},
    }
    config = read_config(base, choices)
    return config, load_task(config)
