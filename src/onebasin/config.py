"""What a run is made of: frozen models, read from TOML with `a.b=c` overrides."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from onebasin.updates.catalogue import CODECS


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names each field, its value and what would be right."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _kind(value: Any) -> Any:
    return _named(value, "kind")


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


Source = RunConfig | Mapping[str, Any] | str | Path
_Read = TypeVar("_Read", bound=BaseModel)


def read_config(source: Source, overrides: Iterable[str] = ()) -> RunConfig:
    """Return the configuration in `source`, changed by `overrides` such as ``"training.lr=0.1"``.

    source: a RunConfig, a mapping, the path of a TOML file, or the name of a method. `ConfigError` if it cannot be run.
    """
    raw = apply_overrides(_raw(source), overrides)
    return validate(RunConfig, with_method_page(raw))


def with_method_page(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return `raw` with the defaults, and above them what the named method's page says, filled in beneath it."""
    from onebasin.methods import load_page

    choices = _named(raw.get("method"), "name")
    if not isinstance(choices, Mapping) or not isinstance(choices.get("name"), str):
        raise ConfigError(f"method: got {choices!r}; expected a name, or a table with a name")
    page = load_page(choices["name"])
    beneath = merge({"task": Task().model_dump()}, page.settings)
    return merge(merge(beneath, {"method": page.method.model_dump()}), {**raw, "method": choices})


def merge(beneath: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both tables as one; `above` wins. A table of another `kind` replaces the one beneath it whole."""
    merged = dict(beneath)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(under, Mapping):
            value = _named(value, "kind")
            if isinstance(value, Mapping) and value.get("kind", under.get("kind")) == under.get("kind"):
                value = merge(under, value)
        merged[key] = value
    return merged


def _named(value: Any, key: str) -> Any:
    """A string stands for the table that has nothing but this key."""
    return {key: value} if isinstance(value, str) else value


def validate(model: type[_Read], raw: Any) -> _Read:
    """Return `raw` as `model`; `ConfigError` names each field that is wrong, its value and what would be right."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(detail, model) for detail in error.errors())) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the TOML file's tables; `ConfigError` when it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None


def apply_overrides(raw: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `raw` with each ``a.b=c`` set; c is a TOML value, or else a string."""
    changed: dict[str, Any] = json.loads(json.dumps(raw))
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"{override!r}: expected KEY=VALUE, such as training.lr=0.1")
        table = changed
        for key in keys[:-1]:
            inner = table.setdefault(key, {})
            if isinstance(inner, str):
                inner = table[key] = {"name" if key == "method" else "kind": inner}
            if not isinstance(inner, dict):
                raise ConfigError(f"{override!r}: {key} is {inner!r}, not a table")
            table = inner
        table[keys[-1]] = _parse_value(text.strip())
    return changed


def _raw(source: Source) -> dict[str, Any]:
    if isinstance(source, RunConfig):
        return source.model_dump(mode="json", exclude_none=True)
    if isinstance(source, Mapping):
        return dict(source)
    if isinstance(source, Path) or source.endswith(".toml"):
        return read_toml(Path(source))
    return {"method": source}


def _significant(model: BaseModel) -> dict[str, Any]:
    """The values that differ from their defaults; what names a variant, and who holds what, always."""
    kept: dict[str, Any] = dict(model.__pydantic_extra__ or {})
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if name not in ("kind", "name", "partition", "clients") and value == field.default:
            continue
        kept[name] = _significant(value) if isinstance(value, BaseModel) else value
    return kept


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _sentence(detail: Any, model: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in detail["loc"]) or model.__name__
    if detail["type"] == "extra_forbidden":
        return f"{place}: no such key"
    if detail["type"] == "missing":
        return f"{place}: is missing"
    message = detail["msg"].removeprefix("Value error, ")
    value = "" if isinstance(detail["input"], (dict, BaseModel)) else f"got {detail['input']!r}; "
    return f"{place}: {value}{message[0].lower()}{message[1:]}"
