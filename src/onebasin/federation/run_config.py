"""What a run is made of: frozen settings. `federation/read_config.py` makes them from files, names and overrides."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, BeforeValidator, Field, model_validator

from onebasin.codecs.chain import parse_chain
from onebasin.core.references import outside_sources, resolve
from onebasin.core.settings import Count, Fraction, Settings, by_kind
from onebasin.federation.engine import AnyEngine
from onebasin.federation.hooks.attack import Attack
from onebasin.federation.hooks.hook import hook_needs, hook_references
from onebasin.learning.data.partition import partition_function
from onebasin.learning.local_training import Training
from onebasin.learning.optimizers import optimizer_class
from onebasin.learning.task import TaskSettings
from onebasin.methods.codec_settings import is_chain
from onebasin.methods.method import Method


class Federation(Settings):
    """The rounds: how many, who takes part, how replies weigh, how often the model is scored on the test set.

    cohort: clients a round, 0 for all. dropout: the probability that a client does not answer its request. late: how
    many clients, the last by number, are not there before round `join_round`. attack: what some of them send.
    """

    rounds: Count = 20
    cohort: Annotated[int, Field(ge=0)] = 0
    late: Annotated[int, Field(ge=0)] = 0
    join_round: Count = 1
    weighting: Literal["examples", "uniform"] = "examples"
    dropout: Fraction = 0.0
    attack: Annotated[Attack | None, BeforeValidator(by_kind)] = None
    evaluate_every: Count = 1


class Tracking(Settings):
    """What is kept beside the run directory. targets: accuracies for bytes-to-target; empty for the data set's own."""

    tensorboard: bool = False
    mlflow: bool = False
    targets: tuple[Fraction, ...] = Field(default=(), strict=False)


class RunConfig(Settings):
    """One run. Two configurations with equal `identity` give the same bytes and the same weights."""

    label: str = ""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    method: Method
    task: TaskSettings = TaskSettings()
    training: Training = Training()
    federation: Federation = Federation()
    engine: AnyEngine = Field(default="single", validate_default=True)
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _parts_fit(self) -> RunConfig:
        attack = self.federation.attack
        problems = [*self.method.run_needs(self), *self.engine.run_needs(self), *cohort_needs(self)]
        problems += [*weights_needs(self), *([] if attack is None else attack.run_needs(self)), *hook_needs(self)]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def title(self) -> str:
        """Return the run's label, or its method's name where it has none."""
        return self.label or self.method.name

    def identity(self) -> str:
        """Return 16 hex digits that name all that the result depends on: not the label, the engine or the tracking.

        Values that equal their default are left out, so a setting that is added later renames no run of before. Code
        from outside the package is named with a digest of its source.
        """
        parts = ("method", "task", "training", "federation")
        kept: dict[str, Any] = {part: _significant(getattr(self, part)) for part in parts}
        if self.method.data == "pooled":
            del kept["task"]["partition"], kept["task"]["clients"]
        if self.task.weights is not None:
            del kept["task"]["weights"]["file"]  # the digest says what is in it
        code = self.outside_code()
        kept |= {"code": code} if code else {}
        return sha256(json.dumps(kept | {"seed": self.seed}, sort_keys=True).encode()).hexdigest()[:16]

    def outside_code(self) -> dict[str, str]:
        """Return name -> digest of the source of each choice, hook, stage, partition and optimiser from outside."""
        used: list[Any] = [type(choice) for choice in self.method.choices]
        used += [resolve(reference) for reference in hook_references(self).values()]
        codecs = [self.method.uplink, self.method.downlink]
        if self.method.opening is not None:
            codecs += [self.method.opening.uplink, self.method.opening.downlink or "none"]
        used += [type(stage) for codec in codecs if is_chain(codec) for stage in parse_chain(codec)]
        if self.method.data != "pooled":
            used.append(partition_function(self.task.partition.kind))
        used += [optimizer_class(name) for name in (self.training.optimizer, self.training.warmup_optimizer) if name]
        return outside_sources(used)

    def to_toml(self) -> str:
        """Return the configuration as TOML, every value spelled out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def cohort_needs(config: RunConfig) -> list[str]:
    """Return a sentence for each setting by which no cohort can be formed."""
    federation, clients = config.federation, config.task.clients
    if clients and federation.late >= clients:
        return [f"federation.late={federation.late} leaves none of task.clients={clients} to begin with"]
    if clients and federation.cohort > clients:
        return [f"federation.cohort={federation.cohort} is more than task.clients={clients}"]
    return []


def weights_needs(config: RunConfig) -> list[str]:
    """Return a sentence for each choice that does not go with given weights, or with none."""
    trained, weights = config.method.parametrization, config.task.weights
    if trained.needs_weights and weights is None:
        return [
            f"method.parametrization={trained.kind!r} masks a trained network: say which with task.weights, a "
            ".safetensors file or the directory of a finished run"
        ]
    if weights is not None and (not trained.begins_with_weights or config.method.models == "masked"):
        return [
            f"task.weights begin a model whose weights are trained or masked; method.parametrization="
            f"{trained.kind!r} and models={config.method.models!r} draw others from a seed"
        ]
    return []


def _significant(model: BaseModel) -> dict[str, Any]:
    """Return the values that differ from their defaults; names of variants, and the partition, always."""
    kept: dict[str, Any] = dict(model.__pydantic_extra__ or {})
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if name not in ("kind", "name", "partition", "clients") and value == field.default:
            continue
        kept[name] = _significant(value) if isinstance(value, BaseModel) else value
    return kept
