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
    """Trained weights that all sides of a run hold: a .safetensors file, or the directory of a finished run.

    digest: of what is in it; filled in where it is left out. head: the last layer is drawn from the seed of what begins
    (`fresh`), or taken from the file as well (`kept`).
    """

    file: str
    digest: Annotated[str, Field(pattern="^([0-9a-f]{32})?$")] = ""
    head: Literal["fresh", "kept"] = "fresh"


def _by_file(value: Any) -> Any:
    return named(value, "file")


class PartitionChoice(WithOptions):
    """How the training data is divided (`onebasin list partitions`)."""


class ModelChoice(WithOptions):
    """What is trained: a name (`onebasin list models`) or `package.module:factory`."""


class TaskSettings(Settings):
    """What is learned, and who holds what. `clients` may be left out where the partition knows (`owner`).

    weights: what the model begins with, in the place of what it draws from a seed. public: training examples that no
    client holds and everybody knows, without their labels. later: the share of each client's examples that it has from
    when it meets the common model on; the others it has only until then.
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
    """parts: for each client its examples, as indices into ``dataset.train``.

    public: inputs that everybody knows and no client holds, without their labels; None where there are none.
    seed: of what is not trained (random weights beneath a mask), where nothing else is said; of anchors, always. later:
    the share of each client's examples that it gets only when it is no longer alone, and the others are gone: one at
    least at each time, if it has two. weights: what the model begins with, where it is not drawn from a seed.
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

    def examples(self, client: int, alone: bool) -> Tensor:
        """Return the indices of what a client trains on, while it is alone with its own weights and afterwards."""
        part = self.parts[client]
        if not self.later:
            return part
        order = torch.randperm(len(part), generator=generator(self.seed, "later", client))
        kept = min(math.ceil(self.later * len(part)), max(1, len(part) - 1))
        return part[(order[kept:] if alone else order[:kept]).sort().values]

    def labels(self, client: int) -> Tensor:
        """Return how many of a client's examples are of each class (of sequences: how many positions), int64."""
        targets = self.dataset.train.targets[self.parts[client]]
        return torch.bincount(targets.flatten(), minlength=self.dataset.classes)

    def build_model(self, seed: int) -> nn.Module:
        """Return the model with the initial weights that belong to `seed`, as far as none are given."""
        model = build_model(self.model_name, self.dataset, seed, **self.model_options)
        if self.weights is not None:
            self.weights.into(model)
        return self.parametrization.apply(model, seed, self.seed)

    def workspace(self) -> nn.Module:
        """Return a model to compute with, whose weights are overwritten before each use.

        Convolutions on a CPU take 0.7 to 1.0 times as long with channels last; other layers do not care.
        """
        model: nn.Module = self.build_model(self.seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def holdings(self) -> dict[str, object]:
        """Return who holds how many examples of which class, as JSON values."""
        counts = holdings(self.dataset, self.parts)
        classes = ["sequences"] if self.dataset.sequence else list(self.dataset.class_names)
        return {"classes": classes, "counts": counts}


def with_own_data(task: Task, client: int, split: object) -> Task:
    """Return the task as the machine sees it that holds a client's own examples, `split`, and no others.

    `ValueError` when they are not of the kind that the run's data set has.
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
