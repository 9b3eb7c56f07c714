"""A study: a grid of runs in one TOML file.

title = "..."              the title of the report
seeds = [0, 1, 2]          each arm is run with each seed
[base]                     tables of a run's configuration, the defaults of every arm
[grid]                     "a.b" = [values]: every arm is run with each combination of values
[[arm]]                    label, method, and tables of a run's configuration
[arm.grid]                 likewise, for this arm alone; its values become part of the label
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
    """One row of the comparison. All keys except label, seeds and grid belong to the configuration."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    label: str
    seeds: list[int] = []
    grid: Grid = {}

    @property
    def settings(self) -> dict[str, Any]:
        """The arm's part of the configuration."""
        return dict(self.__pydantic_extra__ or {})


class Study(BaseModel):
    """The content of a study's file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: str
    seeds: list[int] = Field(default=[0], min_length=1)
    base: dict[str, Any] = {}
    grid: Grid = {}
    arm: list[Arm] = Field(min_length=1)


def read_study(path: Path, overrides: Iterable[str] = ()) -> tuple[Study, list[RunConfig]]:
    """Return a study and the configurations of all its runs.

    overrides: changes of every configuration, such as ``"task.clients=5"``.
    Raises ConfigError, which names the arm, if a configuration cannot be run, or if two arms are the same run.
    """
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
    """Yield label and configuration of each run of an arm."""
    grids = product(arm.seeds or study.seeds, _combinations(study.grid), _combinations(arm.grid))
    for seed, common_values, own_values in grids:
        raw = merge(study.base, arm.settings)
        for key, value in {**common_values, **own_values}.items():
            raw = _set(raw, key.split("."), value)
        label = " ".join([arm.label, *(f"{key.split('.')[-1]}={value}" for key, value in own_values.items())])
        yield label, {**raw, "label": label, "seed": seed}


def _combinations(grid: Grid) -> list[dict[str, Any]]:
    """Return all combinations of a grid's values, by key."""
    for key, values in grid.items():
        if not values:
            raise ConfigError(f"grid: {key!r} has no values")
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def _set(table: Mapping[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    """Return a copy of a table with a value at a path of keys."""
    return merge(table, reduce(lambda inner, key: {key: inner}, reversed(keys), value))
