"""What a run is made of: frozen models. `federation/read_config.py` makes them from files, names and overrides."""

import json
from hashlib import sha256
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from onebasin.methods.method import Method
from onebasin.methods.settings import Count, Fraction, Frozen, Positive, by_kind, named


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names each field, its value and what would be right."""


class Choice(BaseModel):
    """A name with options of its own, which whoever bears the name checks."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    kind: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Weights(Frozen):
    """Trained weights that all sides of a run hold: a .safetensors file, or the directory of a finished run.

    digest: of what is in it; filled in where it is left out. head: the last layer is drawn from the seed of what begins
    (`fresh`), or taken from the file as well (`kept`).
    """

    file: str
    digest: Annotated[str, Field(pattern="^([0-9a-f]{32})?$")] = ""
    head: Literal["fresh", "kept"] = "fresh"


def _by_file(value: Any) -> Any:
    return named(value, "file")


class Partition(Choice):
    """How the training data is divided (`onebasin list partitions`)."""


class Model(Choice):
    """What is trained: a name (`onebasin list models`) or `package.module:factory`."""


class Task(Frozen):
    """What is learned, and who holds what. `clients` may be left out where the partition knows (`owner`).

    weights: what the model begins with, in the place of what it draws from a seed. public: training examples that no
    client holds and everybody knows, without their labels. later: the share of each client's examples that it has from
    when it meets the common model on; the others it has only until then.
    """

    dataset: str = "digits"
    public: Annotated[int, Field(ge=0)] = 0
    later: Fraction = 0.0
    model: Annotated[Model, BeforeValidator(by_kind)] = Model(kind="mlp")
    partition: Annotated[Partition, BeforeValidator(by_kind)] = Partition.model_validate(
        {"kind": "dirichlet", "alpha": 0.3}
    )
    clients: Annotated[int, Field(ge=0)] = 10
    weights: Annotated[Weights | None, BeforeValidator(_by_file)] = None

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
    warmup: epochs of the phase that a client starts from its own weights, where they differ from `epochs`;
    warmup_optimizer (without momentum) and warmup_lr: likewise.
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Positive = 0.05
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    momentum: Fraction = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch: Count = 32
    epochs: Count = 1
    steps: Count | None = None
    warmup: Count | None = None
    warmup_optimizer: Literal["sgd", "adam", "adamw"] | None = None
    warmup_lr: Positive | None = None
    clip: Positive | None = None
    keep_optimizer: bool = False

    @property
    def of_warmup(self) -> "Training":
        """The recipe of the phase that a client starts from its own weights."""
        changes: dict[str, Any] = {}
        if self.warmup is not None:
            changes |= {"epochs": self.warmup, "steps": None}
        if self.warmup_optimizer is not None:
            changes |= {"optimizer": self.warmup_optimizer, "momentum": 0.0}
        if self.warmup_lr is not None:
            changes["lr"] = self.warmup_lr
        return self.model_copy(update=changes)


class Attack(Frozen):
    """For studies: a `fraction` of the clients, drawn from the seed, sends poisoned updates (learning/attacks.py)."""

    kind: Literal["sign-flip", "noise", "scale"] = "sign-flip"
    fraction: Fraction = 0.2
    strength: Positive = 1.0


class Federation(Frozen):
    """The rounds: how many, who takes part, how replies weigh, how often the model is scored on the test set.

    cohort: clients a round, 0 for all. dropout: the chance that a client vanishes in a round after its order was sent.
    late: how many clients, the last by number, are not there before round `join_round`. attack: what some of them send.
    """

    rounds: Count = 20
    cohort: Annotated[int, Field(ge=0)] = 0
    late: Annotated[int, Field(ge=0)] = 0
    join_round: Count = 1
    weighting: Literal["examples", "uniform"] = "examples"
    dropout: Fraction = 0.0
    attack: Annotated[Attack | None, BeforeValidator(by_kind)] = None
    evaluate_every: Count = 1


class Engine(Frozen):
    """Where clients run: `single` process, a `pool` of worker processes, or machines of their own (`flower`).

    workers: of the pool; 0 for one a core. The rest is for Flower: superlink, the name of a connection in Flower's
    configuration ("": its default); deadline, seconds that clients have to answer an order; quorum, the part of those
    asked that must; patience, seconds that a round waits for a node that is not there (at first: the deadline); poll,
    seconds between looks for replies.
    """

    kind: Literal["single", "pool", "flower"] = "single"
    workers: Annotated[int, Field(ge=0)] = 0
    superlink: str = ""
    deadline: Positive = 600.0
    quorum: Annotated[float, Field(gt=0, le=1)] = 0.5
    patience: Annotated[float, Field(ge=0)] = 90.0
    poll: Positive = 1.0


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
    engine: Annotated[Engine, BeforeValidator(by_kind)] = Engine()
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
        if self.method.probes.kind == "public" and self.method.probed and not self.task.public:
            raise ValueError("method.probes='public' needs examples: set task.public to how many there are")
        if self.method.alignment.probes == "public" and self.method.aligned and not self.task.public:
            raise ValueError("method.alignment.probes='public' needs examples: set task.public to how many there are")
        if self.engine.kind == "flower" and (self.method.data == "pooled" or self.method.score == "together"):
            raise ValueError(
                f"engine='flower' cannot run method={self.method.name!r}, which looks into what clients remember: that "
                "stays on their machines"
            )
        if self.method.personal and self.federation.weighting != "uniform":
            raise ValueError(
                "method.combine='overlap' counts the clients that keep a weight: use federation.weighting='uniform', "
                f"not {self.federation.weighting!r}"
            )
        if self.task.partition.kind == "own" and self.method.score == "personal" and not self.method.scored_by_clients:
            raise ValueError(
                "method.score='personal' of a common model asks who holds what, and with task.partition='own' only the "
                "machines know; use 'fine-tuned', which clients report"
            )
        if self.method.parametrization.kind == "backbone-mask" and self.task.weights is None:
            raise ValueError(
                "method.parametrization='backbone-mask' masks a trained network: say which with task.weights, a "
                ".safetensors file or the directory of a finished run"
            )
        other = self.method.parametrization.kind not in ("dense", "masked-noise", "backbone-mask")
        if self.task.weights is not None and (other or self.method.models == "masked"):
            raise ValueError(
                f"task.weights begin a model whose weights are trained or masked; method.parametrization="
                f"{self.method.parametrization.kind!r} and models={self.method.models!r} draw others from a seed"
            )
        if self.federation.attack is not None and self.method.models == "masked":
            raise ValueError(
                f"federation.attack={self.federation.attack.kind!r} forges weights, and method.models='masked' says "
                "only which are kept: every forged mask would keep all"
            )
        private = self.method.privacy
        if private is not None and private.at == "server" and self.federation.weighting != "uniform":
            raise ValueError(
                "method.privacy.at='server' bounds what a client adds to the sum: use federation.weighting='uniform'"
            )
        if self.task.clients and self.federation.late >= self.task.clients:
            raise ValueError(
                f"federation.late={self.federation.late} leaves none of task.clients={self.task.clients} to begin with"
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
        if self.task.weights is not None:
            del kept["task"]["weights"]["file"]  # the digest says what is in it
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
