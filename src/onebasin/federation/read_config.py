"""Reading a configuration: a TOML file or a method's name, completed by the method's page, changed by `a.b=c`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from onebasin.core.settings import ConfigError, named
from onebasin.core.tables import apply_overrides, merge, read_toml, validate
from onebasin.federation.run_config import RunConfig
from onebasin.learning.pretrained import PretrainedError, digest_of, read_pretrained
from onebasin.learning.task import TaskSettings
from onebasin.methods.page import load_page

Source = RunConfig | Mapping[str, Any] | str | Path


def read_config(source: Source, overrides: Iterable[str] = ()) -> RunConfig:
    """Return the configuration of a run.

    source: a RunConfig, a mapping, the path of a TOML file, or the name of a method. Keys that it lacks have the
    defaults of the method's page.
    overrides: changes, such as ``"training.lr=0.1"``.
    Raises ConfigError if the configuration cannot be run; the message names each key that is wrong.
    """
    raw = apply_overrides(_raw(source), overrides)
    return _with_digest(validate(RunConfig, with_method_page(raw)))


def _with_digest(config: RunConfig) -> RunConfig:
    """Return the configuration with the digest of the initial weights. Raises ConfigError if these cannot be read."""
    weights = config.task.weights
    if weights is None or weights.digest:
        return config
    try:
        digest = digest_of(read_pretrained(weights.file).tensors)
    except PretrainedError as error:
        raise ConfigError(f"task.weights: {error}") from None
    task = config.task.model_copy(update={"weights": weights.model_copy(update={"digest": digest})})
    return config.model_copy(update={"task": task})


def with_method_page(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return `raw` completed by the settings of the method's page, and by the default task.

    Raises ConfigError if `raw` names no known method.
    """
    choices = named(raw.get("method"), "name")
    if not isinstance(choices, Mapping) or not isinstance(choices.get("name"), str):
        raise ConfigError(f"method: got {choices!r}; expected a name, or a table with a name")
    page = load_page(choices["name"])
    defaults = merge({"task": TaskSettings().model_dump()}, page.settings)
    return merge(merge(defaults, {"method": page.method.model_dump()}), {**raw, "method": choices})


def _raw(source: Source) -> dict[str, Any]:
    if isinstance(source, RunConfig):
        return source.model_dump(mode="json", exclude_none=True)
    if isinstance(source, Mapping):
        return dict(source)
    if isinstance(source, Path) or source.endswith(".toml"):
        return read_toml(Path(source))
    return {"method": source}
