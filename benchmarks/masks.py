"""A training step of a masked network against the same network without masks: forward, backward, optimiser."""

from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from onebasin.choices import Dense, Parametrization, Supermask
from onebasin.tasks.models.convolutional import lenet5
from onebasin.training.parametrization import parametrize

BATCH, STEPS, REPEATS = 128, 8, 5


def main() -> None:
    torch.set_num_threads(1)
    table = Table(title=f"LeNet5, batches of {BATCH}: times the dense step; median of {REPEATS}, in turn")
    for heading in ("width", "parameters", "dense, ms", "by chance", "highest half"):
        table.add_column(heading, justify="right")
    for width in (1, 2, 4):
        models = [prepared(width, chosen) for chosen in (Dense(), Supermask(), Supermask(kept="highest"))]
        turns = [[seconds(model) for model in models] for _ in range(REPEATS)]
        dense, *masked = (median(column) for column in zip(*turns, strict=True))
        count = sum(parameter.numel() for parameter in models[0].parameters())
        table.add_row(str(width), f"{count:,}", f"{1000 * dense:.1f}", *(f"{each / dense:.2f}" for each in masked))
    Console().print(table)


def prepared(width: int, chosen: Parametrization) -> nn.Module:
    model = lenet5((1, 28, 28), 10, width=width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return parametrize(model, chosen, 0)


def seconds(model: nn.Module) -> float:
    """Return how long one step takes, by the clock."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.01)
    inputs, targets = torch.randn(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))
    began = perf_counter()
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return (perf_counter() - began) / STEPS
