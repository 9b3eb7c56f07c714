"""What a run is made of: frozen models. `reading.py` makes them from files, names and overrides."""

import json
from hashlib import sha256
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from onebasin.updates.catalogue import CODECS


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names each field, its value and what would be right."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def named(value: Any, key: str) -> Any:
    """A string stands for the table that has nothing but this key."""
    return {key: value} if isinstance(value, str) else value


def key_of_name(field: str) -> str:
    """The key under which a table of this field says which it is."""
    return "name" if field == "method" else "kind"


def _kind(value: Any) -> Any:
    return named(value, "kind")


def _codec(value: Any) -> Any:
    if value != "none" and value not in CODECS:
        raise ValueError(f"unknown codec; there are none, {', '.join(CODECS)}")
    return value


Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
CodecName = Annotated[str, BeforeValidator(_codec)]


class Plain(Frozen):
    """The client minimises its own loss."""

    kind: Literal["plain"] = "plain"


class Proximal(Frozen):
    """The client's loss + mu/2 |w - w_received|^2."""

    kind: Literal["proximal"] = "proximal"
    mu: Annotated[float, Field(ge=0)] = 0.01


class ControlVariates(Frozen):
    """The client adds c - c_i to every gradient (SCAFFOLD)."""

    kind: Literal["control-variates"] = "control-variates"


class Average(Frozen):
    """w + rate * mean update."""

    kind: Literal["average"] = "average"
    rate: Positive = 1.0


class Momentum(Frozen):
    """v = beta v + mean update; w + rate * v."""

    kind: Literal["momentum"] = "momentum"
    rate: Positive = 1.0
    beta: Fraction = 0.9


class Adaptive(Frozen):
    """m = beta1 m + (1 - beta1) mean update; w + rate * m / (sqrt(v) + tau), v by Adam's or Yogi's rule."""

    kind: Literal["adam", "yogi"]
    rate: Positive = 0.01
    beta1: Fraction = 0.9
    beta2: Fraction = 0.99
    tau: Positive = 1e-3


class Nesterov(Frozen):
    """v = beta v + mean update; w + rate * (mean update + beta v)."""

    kind: Literal["nesterov"] = "nesterov"
    rate: Positive = 0.7
    beta: Fraction = 0.9


Objective = Annotated[Plain | Proximal | ControlVariates, Field(discriminator="kind"), BeforeValidator(_kind)]
Combine = Annotated[Average | Momentum | Adaptive | Nesterov, Field(discriminator="kind"), BeforeValidator(_kind)]


class Method(Frozen):
    """A method: one choice for each question.

    start: whose weights a client begins with. `broadcast`: the server's, sent; `shared-seed`: the server's, sent as a
    seed; `local`: each client's own.
    frame: how models from different starts become one. `none`: by plain average; `adopt-one`: one client's is taken.
    data: `partitioned`, or `pooled` into one place (training that is not distributed).
    uplink, downlink: the codec, or `none` on both for clients that keep their models to themselves.
    """

    name: str
    data: Literal["partitioned", "pooled"] = "partitioned"
    start: Literal["broadcast", "shared-seed", "local"] = "broadcast"
    frame: Literal["none", "adopt-one"] = "none"
    objective: Objective = Plain()
    uplink: CodecName = "fp32"
    downlink: CodecName = "fp32"
    combine: Combine = Average()

    @property
    def federated(self) -> bool:
        """Whether models travel at all."""
        return self.uplink != "none"

    @model_validator(mode="after")
    def _choices_fit(self) -> "Method":
        if (self.uplink == "none") != (self.downlink == "none"):
            raise ValueError(
                f"uplink={self.uplink!r} and downlink={self.downlink!r}: either both are 'none' or neither"
            )
        if not self.federated and self.start != "local":
            raise ValueError(f"start={self.start!r} needs a downlink; with downlink='none' only 'local' is possible")
        if not self.federated and self.objective.kind == "control-variates":
            raise ValueError("objective='control-variates' needs an uplink and a downlink")
        if self.frame == "adopt-one" and self.objective.kind == "control-variates":
            raise ValueError("frame='adopt-one' has no common model in round 1, which 'control-variates' needs")
        if self.frame == "adopt-one" and not (self.federated and self.start == "local"):
            raise ValueError(f"frame='adopt-one' needs start='local', not {self.start!r}, and an uplink")
        return self


class Choice(BaseModel):
    """A name with options of its own, which whoever bears the name checks."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    kind: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Partition(Choice):
    """How the training data is divided (`onebasin list partitions`)."""


class Model(Choice):
    """What is trained: a name (`onebasin list models`) or `package.module:factory`."""


class Task(Frozen):
    """What is learned, and who holds what. `clients` may be left out where the partition knows (`owner`)."""

    dataset: str = "digits"
    model: Annotated[Model, BeforeValidator(_kind)] = Model(kind="mlp")
    partition: Annotated[Partition, BeforeValidator(_kind)] = Partition.model_validate(
        {"kind": "dirichlet", "alpha": 0.3}
    )
    clients: Annotated[int, Field(ge=0)] = 10

    @model_validator(mode="after")
    def _options_are_options(self) -> "Task":
        for field, choice, taken in (
            ("model", self.model, {"name", "dataset", "seed"}),
            ("partition", self.partition, {"dataset", "clients", "seed"}),
        ):
            for name in taken & choice.options.keys():
                raise ValueError(f"{field}.{name}: is no option of a {field}; clients and seed have keys of their own")
        return self


class Training(Frozen):
    """Local optimisation: what a client does in one round. `steps`, where given, replaces `epochs`.

    lr_decay multiplies the rate after every round. `keep_optimizer`: momenta stay with the client between rounds.
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Positive = 0.05
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    momentum: Fraction = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch: Count = 32
    epochs: Count = 1
    steps: Count | None = None
    clip: Positive | None = None
    keep_optimizer: bool = False


class Federation(Frozen):
    """The rounds: how many, who takes part, how replies weigh, how often the model is scored on the test set.

    cohort: clients a round, 0 for all. dropout: the chance that a client vanishes in a round after its order was sent.
    """

    rounds: Count = 20
    cohort: Annotated[int, Field(ge=0)] = 0
    weighting: Literal["examples", "uniform"] = "examples"
    dropout: Fraction = 0.0
    evaluate_every: Count = 1


class Engine(Frozen):
    """Where clients run: `single` process, or a `pool` of worker processes (one a core unless `workers` says)."""

    kind: Literal["single", "pool"] = "single"
    workers: Annotated[int, Field(ge=0)] = 0


class Tracking(Frozen):
    """What is kept beside the run directory. targets: accuracies for bytes-to-target; empty for the data set's own."""

    tensorboard: bool = False
    mlflow: bool = False
    targets: tuple[Fraction, ...] = Field(default=(), strict=False)


class RunConfig(Frozen):
    """One run. Two configurations with equal `identity` give the same bytes and the same weights."""

    label: str = ""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    method: Method
    task: Task = Task()
    training: Training = Training()
    federation: Federation = Federation()
    engine: Annotated[Engine, BeforeValidator(_kind)] = Engine()
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _parts_fit(self) -> "RunConfig":
        if self.method.objective.kind == "control-variates":
            recipe = self.training
            if recipe.optimizer != "sgd" or recipe.momentum or recipe.weight_decay or recipe.clip:
                raise ValueError(
                    "objective='control-variates' needs training.optimizer='sgd' with momentum=0, weight_decay=0 and "
                    "no clip: its variates are (w_received - w_trained) / (steps * lr) (SCAFFOLD, eq. 4, option II)"
                )
        if self.task.clients and self.federation.cohort > self.task.clients:
            raise ValueError(
                f"federation.cohort={self.federation.cohort} is more than task.clients={self.task.clients}"
            )
        return self

    @property
    def title(self) -> str:
        """What to call the run where no label was given."""
        return self.label or self.method.name

    def identity(self) -> str:
        """Return 16 hex digits that name all that the result depends on: not the label, the engine or the tracking.

        Values that equal their default are left out, so a setting that is added later renames no run of before.
        """
        parts = ("method", "task", "training", "federation")
        kept = {part: _significant(getattr(self, part)) for part in parts}
        if self.method.data == "pooled":
            del kept["task"]["partition"], kept["task"]["clients"]
        return sha256(json.dumps(kept | {"seed": self.seed}, sort_keys=True).encode()).hexdigest()[:16]

    def to_toml(self) -> str:
        """Return the configuration as TOML, every value spelled out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def _significant(model: BaseModel) -> dict[str, Any]:
    """The values that differ from their defaults; what names a variant, and who holds what, always."""
    kept: dict[str, Any] = dict(model.__pydantic_extra__ or {})
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if name not in ("kind", "name", "partition", "clients") and value == field.default:
            continue
        kept[name] = _significant(value) if isinstance(value, BaseModel) else value
    return kept
