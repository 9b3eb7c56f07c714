"""A task: the data, its partition over the clients, and the model that is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from onebasin.core.seeds import generator
from onebasin.core.settings import Fraction, Settings, WithOptions, by_kind, named
from onebasin.learning.data.examples import Dataset, Split
from onebasin.learning.data.partition import holdings
from onebasin.learning.models import build_model
from onebasin.learning.parametrization import Parametrization
from onebasin.learning.parametrizations.dense import Dense
from onebasin.learning.pretrained import Pretrained


class GivenWeights(Settings):
    """Initial weights from a file that the server and all clients have (table `task.weights`).

    file: a .safetensors file, or the directory of a finished run.
    digest: of the tensors (`digest_of`); computed from the file if it is left out.
    head: whether the last layer is drawn from the seed (`fresh`) or taken from the file (`kept`).
    """

    file: str
    digest: Annotated[str, Field(pattern="^([0-9a-f]{32})?$")] = ""
    head: Literal["fresh", "kept"] = "fresh"


def _by_file(value: Any) -> Any:
    return named(value, "file")


class PartitionChoice(WithOptions):
    """How the training examples are divided among the clients: a name (`onebasin list partitions`) and its options."""


class ModelChoice(WithOptions):
    """The model: a name (`onebasin list models`) or ``package.module:factory``, and its options."""


class TaskSettings(Settings):
    """Settings of the task: data, partition and model (table `task`).

    dataset: a name (`onebasin list datasets`) or ``package.module:factory``.
    public: number of training examples that no client has and all know, without their labels.
    later: the share of a client's examples that it has only after the phase on its own initialisation; it has the
    others only in that phase.
    model: the model and its options.
    partition: the partition of the training examples and its options.
    clients: number of clients; 0 with a partition that determines it (`owner`).
    weights: initial weights from a file, in the place of those drawn from a seed.
    """

    dataset: str = "digits"
    public: Annotated[int, Field(ge=0)] = 0
    later: Fraction = 0.0
    model: Annotated[ModelChoice, BeforeValidator(by_kind)] = ModelChoice(kind="mlp")
    partition: Annotated[PartitionChoice, BeforeValidator(by_kind)] = PartitionChoice.model_validate(
        {"kind": "dirichlet", "alpha": 0.3}
    )
    clients: Annotated[int, Field(ge=0)] = 10
    weights: Annotated[GivenWeights | None, BeforeValidator(_by_file)] = None

    @model_validator(mode="after")
    def _options_are_options(self) -> TaskSettings:
        for name, choice, taken in (
            ("model", self.model, {"name", "dataset", "seed"}),
            ("partition", self.partition, {"dataset", "clients", "seed"}),
        ):
            for option in taken & choice.options.keys():
                raise ValueError(f"{name}.{option}: is no option of a {name}; clients and seed have keys of their own")
        return self


@dataclass(frozen=True)
class Task:
    """The data of every client, and how to build the model.

    dataset: training and test examples.
    parts: for each client the indices [n_client] of its examples in ``dataset.train``.
    model_name, model_options: as in `build_model`.
    public: inputs [n, ...] that no client has and all know, without labels; None for none.
    parametrization: what is trained in the place of the model's weights.
    seed: the seed of a `workspace`, and of constants that all models of the run share (anchors).
    later: the share of a client's examples that it has only after the phase on its own initialisation; it has the
    others only in that phase. A client with two examples or more has at least one at each time.
    weights: initial weights from a file; None if they are drawn from a seed.
    """

    dataset: Dataset
    parts: list[Tensor]
    model_name: str
    model_options: dict[str, object]
    public: Tensor | None = None
    parametrization: Parametrization = field(default_factory=Dense)
    seed: int = 0
    later: float = 0.0
    weights: Pretrained | None = None

    def examples(self, client: int, own_model: bool) -> Tensor:
        """Return the indices of the examples that a client trains on.

        own_model: the client trains a model of its own, and not yet the global model.
        """
        part = self.parts[client]
        if not self.later:
            return part
        order = torch.randperm(len(part), generator=generator(self.seed, "later", client))
        later = min(math.ceil(self.later * len(part)), max(1, len(part) - 1))
        return part[(order[later:] if own_model else order[:later]).sort().values]

    def labels(self, client: int) -> Tensor:
        """Return the number of a client's examples (of sequences: positions) of each class, int64 [classes]."""
        targets = self.dataset.train.targets[self.parts[client]]
        return torch.bincount(targets.flatten(), minlength=self.dataset.classes)

    def build_model(self, seed: int) -> nn.Module:
        """Return a model, parametrized. Initial weights that no file gives are drawn from the seed."""
        model = build_model(self.model_name, self.dataset, seed, **self.model_options)
        if self.weights is not None:
            self.weights.into(model)
        return self.parametrization.apply(model, seed, self.seed)

    def workspace(self) -> nn.Module:
        """Return a model whose weights are overwritten before each use.

        It is in channels-last memory format, in which convolutions on a CPU take 0.7 to 1.0 times as long; other layers
        are equally fast.
        """
        model: nn.Module = self.build_model(self.seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def holdings(self) -> dict[str, object]:
        """Return the number of examples of each class at each client, as JSON values."""
        counts = holdings(self.dataset, self.parts)
        classes = ["sequences"] if self.dataset.sequence else list(self.dataset.class_names)
        return {"classes": classes, "counts": counts}


def with_own_data(task: Task, client: int, split: object) -> Task:
    """Return the task for a device that has the examples of one client, and of no other.

    client: the number of that client.
    split: its training examples, a `Split`.
    Raises ValueError if the examples do not fit the run's data set, or if the run has no such client.
    """
    if not isinstance(split, Split):
        raise ValueError(f"a client's own data is a {type(split).__name__}; expected onebasin's Split")
    if not 0 <= client < len(task.parts):
        raise ValueError(f"client {client}: the run has clients 0 to {len(task.parts) - 1}")
    known = task.dataset.train
    if split.inputs.dtype != known.inputs.dtype or split.targets.ndim != known.targets.ndim:
        raise ValueError(
            f"a client's own data has {split.inputs.dtype} inputs and targets of {split.targets.ndim} dimensions; "
            f"{task.dataset.name} has {known.inputs.dtype} and {known.targets.ndim}"
        )
    parts = [torch.arange(len(split) if other == client else 0) for other in range(len(task.parts))]
    return replace(task, dataset=replace(task.dataset, train=split), parts=parts)
