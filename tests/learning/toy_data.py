"""Data sets of a few examples."""

from collections.abc import Sequence

import torch

from onebasin.learning.data.load import Dataset, Split


def classification(
    labels: Sequence[int], *, classes: int | None = None, shape: tuple[int, ...] = (2,), owners: Sequence[int] = ()
) -> Dataset:
    """A data set with these training labels (and owners), inputs counting up, and one test example."""
    count = len(labels)
    size = int(torch.tensor(shape).prod())
    inputs = torch.arange(count * size, dtype=torch.float32).reshape(count, *shape) / (count * size)
    return Dataset(
        name="toy",
        train=Split(inputs, torch.tensor(labels), torch.tensor(owners) if len(owners) else None),
        test=Split(inputs[:1], torch.tensor(labels[:1])),
        class_names=tuple(f"class {index}" for index in range(classes or max(labels) + 1)),
        owner_names=tuple(f"owner {index}" for index in range(max(owners, default=-1) + 1)),
        compressed_bytes=1,
        source="test",
    )


def text(sequences: int, *, length: int = 5, vocabulary: int = 7, owners: Sequence[int] = ()) -> Dataset:
    """A data set of counting sequences: the next token is the token plus one, around the vocabulary."""
    tokens = (torch.arange(sequences)[:, None] + torch.arange(length)) % vocabulary
    return Dataset(
        name="counting",
        train=Split(tokens, (tokens + 1) % vocabulary, torch.tensor(owners) if len(owners) else None),
        test=Split(tokens[:1], (tokens[:1] + 1) % vocabulary),
        class_names=tuple("abcdefghijklmnopqrstuvwxyz"[:vocabulary]),
        owner_names=tuple(f"owner {index}" for index in range(max(owners, default=-1) + 1)),
        compressed_bytes=1,
        source="test",
    )
