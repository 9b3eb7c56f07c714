"""A task of ours in pfl-research's SimulatedBackend; ``make bench`` puts 0.6.0 of it into ``.bench/``."""

import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from onebasin.learning.metrics import loss_of
from onebasin.learning.task import Task

sys.path.append(str(Path(__file__).parents[1] / ".bench"))


@cache
def installed(package: str) -> bool:
    """Whether a package and all that it imports is there."""
    try:
        import_module(package)
    except ImportError:
        return False
    return True


def simulate(task: Task, module: nn.Module, draws: torch.Generator, momentum: float) -> tuple[Any, Any]:
    """Return the backend in which all clients take part in turn, and the model that trains `module` by SGD.

    draws: the order of each client's examples, anew in each round. Nothing is evaluated.
    """
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.metrics import Weighted
    from pfl.model.pytorch import PyTorchModel

    inputs, targets, sgd = task.dataset.train.inputs, task.dataset.train.targets, torch.optim.SGD

    def loss(x: torch.Tensor, y: torch.Tensor, is_eval: bool = False) -> torch.Tensor:
        module.train(not is_eval)
        return loss_of(module(x), y)

    module.loss = loss  # type: ignore[assignment]
    module.metrics = lambda x, y: {"none": Weighted(0.0, len(x))}  # type: ignore[assignment]
    model = PyTorchModel(
        module, lambda parameters, lr: sgd(parameters, lr=lr, momentum=momentum), sgd(module.parameters(), lr=1.0)
    )

    def user(client: int) -> Dataset:
        order = task.parts[client][torch.randperm(len(task.parts[client]), generator=draws)]
        return Dataset([inputs[order], targets[order]], user_id=str(client))

    everyone = iter(range(10**9))
    data = FederatedDataset(user, lambda: next(everyone) % len(task.parts))
    return SimulatedBackend(training_data=data, val_data=None), model
