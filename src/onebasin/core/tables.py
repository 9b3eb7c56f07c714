"""Tables of settings: read from TOML, merged, overridden, and validated with errors that name the field."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from onebasin.core.choices import NESTED
from onebasin.core.settings import ConfigError, key_of_name, named

_BEGINS_WITH_KEY = re.compile(r"[a-z_]+(\.[a-z_]+)*=")
_Model = TypeVar("_Model", bound=BaseModel)


def merge(defaults: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults with the changes, merged table by table; where both have a value, that of `changes` is taken.

    A string stands for a table with that name. A table with another `kind` replaces the default table as a whole.
    """
    merged = dict(defaults)
    for key, value in changes.items():
        default = merged.get(key)
        if isinstance(default, Mapping) or isinstance(value, Mapping):
            default, value = named(default, key_of_name(key)), named(value, key_of_name(key))
        if isinstance(default, Mapping) and isinstance(value, Mapping):
            same_kind = value.get("kind", default.get("kind")) == default.get("kind")
            value = merge(default, value) if same_kind else value
        merged[key] = value
    return merged


def validate(model: type[_Model], raw: Any) -> _Model:
    """Return `raw` as an instance of `model`.

    Errors: `ConfigError` with a line for each wrong field: its path, its value and what was expected.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentences(error.errors(), model.__name__))) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file. Errors: `ConfigError` if it does not exist or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None


def apply_overrides(raw: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `raw` with each override ``a.b=c`` applied. c is a TOML value, or else a string without quotes.

    Errors: `ConfigError` if an override has another form, or a key on its path is neither a table nor a name.
    """
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


def _parse_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text


def _sentences(errors: Iterable[Any], model_name: str, prefix: Sequence[str] = ()) -> Iterator[str]:
    """Yield a line for each error: the field's path, its value and what was expected."""
    for error in errors:
        path = [*prefix, *map(str, error["loc"])]
        if error["type"] == NESTED:
            yield from _sentences(error["ctx"]["errors"], model_name, [*path, error["ctx"]["kind"]])
            continue
        field = ".".join(path) or model_name
        if error["type"] == "extra_forbidden":
            yield f"{field}: no such key"
        elif error["type"] == "missing":
            yield f"{field}: is missing"
        else:
            value = "" if isinstance(error["input"], (dict, BaseModel)) else f"got {error['input']!r}; "
            for message in error["msg"].removeprefix("Value error, ").split("\n"):
                yield _sentence(path, field, f"{value}{message[:1].lower()}{message[1:]}")


def _sentence(path: Sequence[str], field: str, message: str) -> str:
    """Return a line about a field; a message that starts with a key of it goes on from its path."""
    if _BEGINS_WITH_KEY.match(message):
        return ".".join([*path, message])
    return f"{field}: {message}"
