"""A data set of 90 examples, for runs that take a tenth of a second."""

import torch

from onebasin import Dataset, Split


def blobs() -> Dataset:
    """Return three classes around three points in eight dimensions."""
    draws = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(3, 8, generator=draws)

    def split(count: int) -> Split:
        targets = torch.arange(count) % 3
        return Split(centres[targets] + torch.randn(count, 8, generator=draws), targets)

    return Dataset("blobs", split(90), split(60), ("a", "b", "c"), (), 0, "tests.methods.tiny_data:blobs")
