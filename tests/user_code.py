"""A user's own data set and model, as they would write them."""

from collections.abc import Iterable

import torch
from torch import nn

from onebasin import Dataset, Split


def dataset() -> Dataset:
    """Two kinds of 8x8 images that are easy to tell apart."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(120) % 2
    inputs = torch.randn(120, 1, 8, 8, generator=generator) + 2.0 * targets.view(-1, 1, 1, 1)
    return Dataset(
        name="two kinds",
        train=Split(inputs[:100], targets[:100], None),
        test=Split(inputs[100:], targets[100:], None),
        class_names=("dark", "light"),
        owner_names=(),
        compressed_bytes=1000,
        source="tests",
    )


def network(data: Dataset, channels: int = 4) -> nn.Module:
    """A convolution, BatchNorm, dropout."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(36 * channels, data.classes),
    )


def misfit(data: Dataset) -> nn.Module:
    """A model with one output too many."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, data.classes + 1))


class Tied(nn.Module):
    """Two layers that share their weight, one that is frozen, and buffers of every sort."""

    passes: torch.Tensor

    def __init__(self, data: Dataset) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(64, 64)
        self.frozen.requires_grad_(False)
        self.head = nn.Linear(64, data.classes)
        self.register_buffer("mask", torch.full((64,), -torch.inf).masked_fill(torch.arange(64) >= 0, 0.0))
        self.register_buffer("infinite", torch.tensor([-torch.inf, 0.0]))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("passes", torch.zeros(()), persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        hidden = torch.relu(self.first(inputs.flatten(1)) + self.mask)
        return self.head(torch.relu(self.frozen(self.second(hidden)))) / (1 + 0.01 * self.passes)


def moody(data: Dataset) -> nn.Module:
    """A model that cannot take some batches."""

    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, data.classes)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if self.training and inputs[0, 0, 0, 0] > 0:
                raise IndexError("not this one")
            return self.layer(inputs.flatten(1))

    return Moody()


def broken() -> Dataset:
    """A factory that fails."""
    raise KeyError("no such column")


def small() -> nn.Module:
    """A model that needs no data set to be built."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 2))


def nothing() -> str:
    """No model at all."""
    return "model"


CONSTANT = 3


class Recorded(torch.optim.SGD):
    """An optimiser that keeps the arguments that it is given."""

    def __init__(self, parameters: Iterable[nn.Parameter], **given: float) -> None:
        super().__init__(parameters, lr=given["lr"])
        self.given = given
