"""A task: the data, who holds what of it, and the model that is trained."""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from onebasin.core.seeds import derive, generator
from onebasin.federation.run_config import RunConfig
from onebasin.learning.data.load import Dataset, Split, load_dataset
from onebasin.learning.data.partition import holdings, partition
from onebasin.learning.models import build_model
from onebasin.learning.parametrizations.parametrize import parametrize
from onebasin.learning.pretrained import Pretrained, read_pretrained
from onebasin.methods.settings import Dense, Parametrization


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
        return parametrize(model, self.parametrization, seed, self.seed)

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


def load_task(config: RunConfig) -> Task:
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
