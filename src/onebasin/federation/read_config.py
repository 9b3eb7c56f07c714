"""Reading a configuration: TOML or a method's name, what the method's page says beneath it, `a.b=c` above it."""

import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from onebasin.federation.run_config import ConfigError, RunConfig, Task
from onebasin.learning.pretrained import PretrainedError, digest_of, read_pretrained
from onebasin.methods.pages import load_page
from onebasin.methods.settings import key_of_name, named

Source = RunConfig | Mapping[str, Any] | str | Path
_Read = TypeVar("_Read", bound=BaseModel)


def read_config(source: Source, overrides: Iterable[str] = ()) -> RunConfig:
    """Return the configuration in `source`, changed by `overrides` such as ``"training.lr=0.1"``.

    source: a RunConfig, a mapping, the path of a TOML file, or the name of a method. `ConfigError` if it cannot be run.
    """
    raw = apply_overrides(_raw(source), overrides)
    return _with_digest(validate(RunConfig, with_method_page(raw)))


def _with_digest(config: RunConfig) -> RunConfig:
    """Return the configuration with the digest of the weights that it begins with; `ConfigError` without them."""
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
    """Return `raw` with the defaults, and above them what the named method's page says, filled in beneath it."""
    choices = named(raw.get("method"), "name")
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
        if isinstance(under, Mapping) or isinstance(value, Mapping):
            under, value = named(under, key_of_name(key)), named(value, key_of_name(key))
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            same_kind = value.get("kind", under.get("kind")) == under.get("kind")
            value = merge(under, value) if same_kind else value
        merged[key] = value
    return merged


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
    changed = deepcopy(dict(raw))
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"{override!r}: expected KEY=VALUE, such as training.lr=0.1")
        table = changed
        for key in keys[:-1]:
            inner = table.setdefault(key, {})
            if isinstance(inner, str):
                inner = table[key] = {key_of_name(key): inner}
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
