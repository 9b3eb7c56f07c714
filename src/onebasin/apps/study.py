"""A study: a grid of runs in one TOML file.

title = "..."              what the report is called
seeds = [0, 1, 2]
[base]                     beneath every arm: any tables of a run's configuration
[grid]                     "a.b" = [values]: every arm is run with each
[[arm]]                    label, method, any tables of a run's configuration
[arm.grid]                 the same, for this arm alone; the label says which
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from onebasin.core.settings import ConfigError
from onebasin.core.tables import apply_overrides, merge, read_toml, validate
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig

Grid = dict[str, list[Any]]


class Arm(BaseModel):
    """One row of the comparison; what is not label, seeds or grid belongs to its configuration."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    label: str
    seeds: list[int] = []
    grid: Grid = {}

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Study(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: str
    seeds: list[int] = Field(default=[0], min_length=1)
    base: dict[str, Any] = {}
    grid: Grid = {}
    arm: list[Arm] = Field(min_length=1)


def read_study(path: Path, overrides: Iterable[str] = ()) -> tuple[Study, list[RunConfig]]:
    """Return the study and its runs, each configuration once; `ConfigError` names the arm that cannot be run."""
    study = validate(Study, read_toml(path))
    runs: dict[str, RunConfig] = {}
    for arm in study.arm:
        for label, raw in _variants(study, arm):
            try:
                config = read_config(apply_overrides(raw, overrides))
            except ConfigError as error:
                raise ConfigError(f"{path}: arm {label!r}: {error}") from None
            first = runs.setdefault(config.identity(), config)
            if first.label != label:
                raise ConfigError(f"{path}: arms {first.label!r} and {label!r} are the same run (seed {config.seed})")
    return study, list(runs.values())


def _variants(study: Study, arm: Arm) -> Iterator[tuple[str, dict[str, Any]]]:
    for seed, common, own in product(arm.seeds or study.seeds, _points(study.grid), _points(arm.grid)):
        raw = merge(study.base, arm.settings)
        for key, value in {**common, **own}.items():
            raw = _set(raw, key.split("."), value)
        label = " ".join([arm.label, *(f"{key.split('.')[-1]}={value}" for key, value in own.items())])
        yield label, {**raw, "label": label, "seed": seed}


def _points(grid: Grid) -> list[dict[str, Any]]:
    for key, values in grid.items():
        if not values:
            raise ConfigError(f"grid: {key!r} has no values")
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def _set(table: Mapping[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    """Return the table with one more value in it."""
    return merge(table, reduce(lambda inner, key: {key: inner}, reversed(keys), value))
