"""The configuration of a run, as frozen settings; `read_config.py` reads it from files, names and overrides."""

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
    """Settings of the rounds (table `federation`).

    rounds: their number.
    cohort: number of clients that take part in a round; 0 for all.
    late: number of clients, the last by number, that join only in round `join_round`.
    join_round: the round in which they join, from 1.
    weighting: a client's weight in means. `examples`: its number of examples; `uniform`: the same for all clients.
    dropout: the probability that a client does not reply to a request.
    attack: forged updates of some clients, for studies; None for none.
    evaluate_every: number of rounds from one evaluation on the test set to the next; the last round is always
    evaluated.
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
    """Settings of trackers and summaries (table `tracking`).

    tensorboard, mlflow: whether to write the history for these trackers, too.
    targets: accuracies for bytes-to-target; empty for those of the data set.
    """

    tensorboard: bool = False
    mlflow: bool = False
    targets: tuple[Fraction, ...] = Field(default=(), strict=False)


class RunConfig(Settings):
    """The configuration of one run.

    Runs with equal `identity` send equal messages and end with equal weights, bit for bit, except for privacy noise
    from a secret.
    label: the name in tables and legends; empty for the method's name.
    seed: of all random choices of the run.
    method, task, training, federation, engine, tracking: the tables of a configuration.
    """

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
        """The label, or the name of the method if there is no label."""
        return self.label or self.method.name

    def identity(self) -> str:
        """Return a digest of everything that the result depends on, 16 hex digits.

        Label, engine and tracking are not part of it. Values that equal their default are left out, so that a setting
        which is added later does not change the identity of older runs. Code from outside the package counts with a
        digest of its source.
        """
        parts = ("method", "task", "training", "federation")
        settings: dict[str, Any] = {part: _significant(getattr(self, part)) for part in parts}
        if self.method.data == "pooled":
            del settings["task"]["partition"], settings["task"]["clients"]
        if self.task.weights is not None:
            del settings["task"]["weights"]["file"]  # the digest identifies its content
        code = self.outside_code()
        settings |= {"code": code} if code else {}
        return sha256(json.dumps(settings | {"seed": self.seed}, sort_keys=True).encode()).hexdigest()[:16]

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
        """Return the configuration as TOML, with every value."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def cohort_needs(config: RunConfig) -> list[str]:
    """Return a sentence if the federation's settings need more clients than the task has."""
    federation, clients = config.federation, config.task.clients
    if clients and federation.late >= clients:
        return [f"federation.late={federation.late} leaves none of task.clients={clients} to begin with"]
    if clients and federation.cohort > clients:
        return [f"federation.cohort={federation.cohort} is more than task.clients={clients}"]
    return []


def weights_needs(config: RunConfig) -> list[str]:
    """Return a sentence if the parametrization needs `task.weights` and there are none, or if it cannot use them."""
    parametrization, weights = config.method.parametrization, config.task.weights
    if parametrization.needs_weights and weights is None:
        return [
            f"method.parametrization={parametrization.kind!r} masks a trained network: say which with task.weights, a "
            ".safetensors file or the directory of a finished run"
        ]
    if weights is not None and (not parametrization.begins_with_weights or config.method.models == "masked"):
        return [
            f"task.weights begin a model whose weights are trained or masked; method.parametrization="
            f"{parametrization.kind!r} and models={config.method.models!r} draw others from a seed"
        ]
    return []


def _significant(model: BaseModel) -> dict[str, Any]:
    """Return the values that differ from their defaults, and always the names of choices, partition and clients."""
    significant: dict[str, Any] = dict(model.__pydantic_extra__ or {})
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if name not in ("kind", "name", "partition", "clients") and value == field.default:
            continue
        significant[name] = _significant(value) if isinstance(value, BaseModel) else value
    return significant
