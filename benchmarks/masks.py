"""A training step of a masked network against the same network without masks: forward, backward, optimiser."""

from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from onebasin.learning.masks.masked_update import MaskedUpdate, forward_with_masked_update
from onebasin.learning.models.convolutional import lenet5
from onebasin.learning.parametrization import Parametrization
from onebasin.learning.parametrizations.anchored import Anchored
from onebasin.learning.parametrizations.dense import Dense
from onebasin.learning.parametrizations.masked_noise import MaskedNoise
from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.networks.weights import clone, parameters_of

BATCH, STEPS, REPEATS = 128, 8, 5
WAYS: dict[str, Parametrization] = {
    "dense, ms": Dense(),
    "by chance": Supermask(),
    "highest half": Supermask(kept="highest"),
    "masked noise": MaskedNoise(),
    "anchored": Anchored(),
}


def main() -> None:
    torch.set_num_threads(1)
    table = Table(title=f"LeNet5, batches of {BATCH}: times the dense step; median of {REPEATS}, in turn")
    for heading in ("width", "parameters", *WAYS):
        table.add_column(heading, justify="right")
    for width in (1, 2, 4):
        models = [prepared(width, chosen) for chosen in WAYS.values()]
        turns = [[seconds(*model) for model in models] for _ in range(REPEATS)]
        dense, *masked = (median(column) for column in zip(*turns, strict=True))
        count = sum(parameter.numel() for parameter in models[0][0].parameters())
        table.add_row(str(width), f"{count:,}", f"{1000 * dense:.1f}", *(f"{each / dense:.2f}" for each in masked))
    Console().print(table)


def prepared(width: int, chosen: Parametrization) -> tuple[nn.Module, MaskedUpdate | None]:
    model = chosen.apply(lenet5((1, 28, 28), 10, width=width), 0, 0)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not isinstance(chosen, MaskedNoise):
        return model, None
    noise = {name: torch.rand(parameter.shape) - 0.5 for name, parameter in parameters_of(model).items()}
    return model, MaskedUpdate(noise, signed=True)


def seconds(model: nn.Module, masking: MaskedUpdate | None) -> float:
    """Return how long one step takes, by the clock."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.01)
    inputs, targets = torch.randn(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))
    parameters, draws = parameters_of(model), torch.Generator().manual_seed(0)
    began = clone(parameters)
    start = perf_counter()
    for _ in range(STEPS):
        optimizer.zero_grad()
        with forward_with_masked_update(parameters, began, masking, 0.5, draws):
            nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return (perf_counter() - start) / STEPS
