"""Loading a task: the data set, its partition over the clients, and the weights that a model begins with."""

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


class _Learning(Protocol):
    """What a method says about learning."""

    @property
    def data(self) -> str: ...

    @property
    def parametrization(self) -> Parametrization: ...


class TaskSource(Protocol):
    """What a task is loaded from: a run's configuration."""

    @property
    def seed(self) -> int: ...

    @property
    def task(self) -> TaskSettings: ...

    @property
    def method(self) -> _Learning: ...


def load_task(config: TaskSource) -> Task:
    """Return the run's task. Errors: those of `load_dataset`, `partition`, `build_model` and `read_pretrained`."""
    chosen = config.task
    dataset, public = _set_aside(load_dataset(chosen.dataset), chosen.public, derive(config.seed, "public"))
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


def _set_aside(dataset: Dataset, count: int, seed: int) -> tuple[Dataset, Tensor | None]:
    """Take some inputs out of the training split; `ValueError` if that leaves nothing to train on."""
    if not count:
        return dataset, None
    train = dataset.train
    if count >= len(train):
        raise ValueError(f"task.public={count} leaves none of {len(train)} training examples")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    chosen, rest = order[:count].sort().values, order[count:].sort().values
    owners = None if train.owners is None else train.owners[rest]
    left = Split(train.inputs[rest], train.targets[rest], owners)
    return replace(dataset, train=left), train.inputs[chosen]
