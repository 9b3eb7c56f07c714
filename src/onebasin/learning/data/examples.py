"""Data sets in memory: a training split, a test split, and the names of their classes and owners."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class DatasetNotFound(FileNotFoundError):
    """The files of a data set were not found. The message lists the folders searched and what the user can do."""


class DatasetCorrupt(ValueError):
    """A data file has unexpected content. The message names the file, what was found and what was expected."""


@dataclass(frozen=True, eq=False)
class Split:
    """Examples in a fixed order.

    inputs: float32 [n, ...], normalised with the training split's statistics; or int64 token ids [n, length].
    targets: int64 [n], the class of each example; or int64 [n, length], the next token at each position.
    owners: int64 [n], indices into `Dataset.owner_names`; None if the data set has no natural owners.
    Raises ValueError if inputs, targets and owners differ in length or have the wrong type.
    """

    inputs: Tensor
    targets: Tensor
    owners: Tensor | None = None

    def __post_init__(self) -> None:
        if self.targets.dtype != torch.int64 or self.targets.ndim not in (1, 2):
            raise ValueError(
                f"targets: {_describe(self.targets)}; expected int64 [n], or int64 [n, length] for sequences"
            )
        if self.inputs.ndim < 1 or len(self.inputs) != len(self.targets):
            raise ValueError(
                f"inputs: {_describe(self.inputs)}; expected one for each of the {len(self.targets)} targets"
            )
        if self.owners is not None and (self.owners.dtype != torch.int64 or self.owners.shape != (len(self.targets),)):
            raise ValueError(f"owners: {_describe(self.owners)}; expected int64 [{len(self.targets)}] or None")

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training split and a test split, with their metadata.

    name: the name under which the data set is loaded.
    train: the training examples.
    test: the test examples.
    class_names: one name per class; for text, one per token of the vocabulary.
    owner_names: one name per owner (a person, a speaking role); empty if the data set has no owners.
    compressed_bytes: size of the losslessly compressed training split, the cost of sending it to one place.
    source: "embedded", a directory, "hub:<repository>" or "package.module:factory".
    Raises ValueError if a split is empty, if a class or an owner has no name, or if the splits differ in shape.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    owner_names: tuple[str, ...]
    compressed_bytes: int
    source: str

    def __post_init__(self) -> None:
        for field, split in (("train", self.train), ("test", self.test)):
            if len(split) == 0:
                raise ValueError(f"{self.name}.{field}: no examples; expected at least one")
            _check_range(f"{self.name}.{field}.targets", split.targets, self.classes, "class_names")
            if split.owners is not None:
                _check_range(f"{self.name}.{field}.owners", split.owners, len(self.owner_names), "owner_names")
        if self.train.inputs.shape[1:] != self.test.inputs.shape[1:]:
            raise ValueError(
                f"{self.name}.test.inputs: examples of shape {list(self.test.inputs.shape[1:])}; "
                f"expected {list(self.train.inputs.shape[1:])} as in train"
            )
        if self.train.targets.ndim != self.test.targets.ndim:
            raise ValueError(f"{self.name}: train and test disagree on whether targets are sequences")

    @property
    def classes(self) -> int:
        """Number of classes; for text, the size of the vocabulary."""
        return len(self.class_names)

    @property
    def sequence(self) -> bool:
        """Whether examples have one target per position instead of one per example."""
        return self.train.targets.ndim == 2


def _check_range(field: str, values: Tensor, limit: int, names: str) -> None:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= limit:
        raise ValueError(f"{field}: values from {low} to {high}; expected 0 to {limit - 1}, one for each of {names}")


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
