"""Loading a task: the data set, its partition over the clients, and the initial weights if a file gives them."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from onebasin.core.seeds import derive
from onebasin.learning.data.examples import Dataset, Split
from onebasin.learning.data.load import load_dataset
from onebasin.learning.data.partition import partition
from onebasin.learning.parametrization import Parametrization
from onebasin.learning.pretrained import read_pretrained
from onebasin.learning.task import Task, TaskSettings


class _LearningSettings(Protocol):
    """The settings of a method that a task depends on."""

    @property
    def data(self) -> str: ...

    @property
    def parametrization(self) -> Parametrization: ...


class TaskSource(Protocol):
    """The part of a run's configuration from which a task is loaded."""

    @property
    def seed(self) -> int: ...

    @property
    def task(self) -> TaskSettings: ...

    @property
    def method(self) -> _LearningSettings: ...


def load_task(config: TaskSource) -> Task:
    """Load the task of a run.

    With ``method.data="pooled"``, one client gets all training examples.
    Errors: those of `load_dataset`, `partition`, `build_model` and `read_pretrained`; ValueError if `task.public`
    leaves no training examples.
    """
    chosen = config.task
    dataset, public = _split_off_public(load_dataset(chosen.dataset), chosen.public, derive(config.seed, "public"))
    if config.method.data == "pooled":
        parts = [torch.arange(len(dataset.train))]
    else:
        seed = derive(config.seed, "partition")
        parts = partition(chosen.partition.kind, dataset, chosen.clients, seed, **chosen.partition.options)
    weights = chosen.weights
    return Task(
        dataset,
        parts,
        chosen.model.kind,
        chosen.model.options,
        public,
        config.method.parametrization,
        derive(config.seed, "init"),
        0.0 if config.method.data == "pooled" else chosen.later,
        None if weights is None else read_pretrained(weights.file, weights.digest, weights.head == "fresh"),
    )


def _split_off_public(dataset: Dataset, count: int, seed: int) -> tuple[Dataset, Tensor | None]:
    """Move `count` random inputs from the training split to a public set [count, ...]; None if `count` is 0.

    Raises ValueError if no training examples are left.
    """
    if not count:
        return dataset, None
    train = dataset.train
    if count >= len(train):
        raise ValueError(f"task.public={count} leaves none of {len(train)} training examples")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    public, rest = order[:count].sort().values, order[count:].sort().values
    owners = None if train.owners is None else train.owners[rest]
    private = Split(train.inputs[rest], train.targets[rest], owners)
    return replace(dataset, train=private), train.inputs[public]
