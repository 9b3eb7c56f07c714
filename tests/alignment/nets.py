"""Small networks and state dicts for these tests."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn


def perceptron(*sizes: int, norm: bool = False) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes[:-1]):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 12, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(12 * 16, 20),
        nn.ReLU(),
        nn.Linear(20, 4),
    )


class Sequences(nn.Module):
    """An embedding, a recurrent layer, and an output at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        self.rnn = nn.GRU(8, 12, batch_first=True)
        self.out = nn.Linear(12, 9)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.rnn(self.embedding(x))[0])
        return out


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def noisy(state: dict[str, Tensor], share: float, seed: int = 9) -> dict[str, Tensor]:
    """Every tensor with normal noise of this share of its own standard deviation."""
    draws = torch.Generator().manual_seed(seed)
    return {
        name: value + share * value.std() * torch.randn(value.shape, generator=draws)
        if value.is_floating_point() and value.numel() > 1 and float(value.std()) > 0
        else value
        for name, value in state.items()
    }


class OneLayerTwice(nn.Module):
    """A layer that is called under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.three = self.two

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.two(torch.relu(self.one(x))))
        out: Tensor = self.out(torch.relu(self.three(hidden)))
        return out
