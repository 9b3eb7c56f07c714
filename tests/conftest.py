"""What several rooms' tests share: hypothesis settings, and a three-parameter task with exact answers."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.data.load import Dataset, Split
from onebasin.learning.task import Task

# In continuous integration the same examples every time; elsewhere new ones.
settings.register_profile("quick", deadline=None, max_examples=60, derandomize="CI" in os.environ)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag that records golden traces anew."""
    parser.addoption("--rewrite-traces", action="store_true", help="record tests/golden/traces anew")


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Have every test draw the same from torch's global generator, whatever ran before it."""
    torch.manual_seed(0)


class Point(nn.Module):
    """Three parameters; the output is how far they are from the example."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.w - inputs


class QuadraticTask(Task):
    """Client i minimises 1/2 |w - target_i|^2: with rate 1/2, a step halves the way to the target."""

    def build_model(self, seed: int) -> nn.Module:
        model = Point()
        with torch.no_grad():
            model.w += float(seed % 7) if seed else 0.0
        return model


def squared_distance(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * outputs.square().sum(dim=1).mean()


@pytest.fixture
def quadratic(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Task]:
    """Make a task from one target and one number of examples for each client."""
    monkeypatch.setattr("onebasin.learning.local_training.loss_of", squared_distance)

    def make(targets: list[list[float]], examples: list[int]) -> Task:
        rows = torch.tensor([t for t, n in zip(targets, examples, strict=True) for _ in range(n)])
        split = Split(rows, torch.zeros(len(rows), dtype=torch.int64), None)
        parts = list(torch.arange(len(rows)).split(examples))
        dataset = Dataset("quadratic", split, split, ("a", "b", "c"), (), 0, "test")
        return QuadraticTask(dataset, parts, "point", {})

    return make


@pytest.fixture
def quick_config() -> Callable[..., RunConfig]:
    """Make a configuration of a few short rounds on digits."""

    def make(method: str = "fedavg", *overrides: str, **tables: Any) -> RunConfig:
        base = {"method": method, "federation": {"rounds": 3}, "task": {"clients": 4}, **tables}
        return read_config(base, overrides)

    return make
