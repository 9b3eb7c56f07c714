"""A user's own data set and model, as they would write them."""

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
