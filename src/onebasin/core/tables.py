"""Tables of settings: read from TOML, merged, changed by overrides, and validated with errors that name the field."""

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
_Read = TypeVar("_Read", bound=BaseModel)


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
        raise ConfigError("\n".join(_sentences(error.errors(), model.__name__))) from None


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


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _sentences(details: Iterable[Any], name: str, place: Sequence[str] = ()) -> Iterator[str]:
    """Yield a line for each problem: where it is, what was found, and what would be right."""
    for detail in details:
        where = [*place, *map(str, detail["loc"])]
        if detail["type"] == NESTED:
            yield from _sentences(detail["ctx"]["errors"], name, [*where, detail["ctx"]["kind"]])
            continue
        field = ".".join(where) or name
        if detail["type"] == "extra_forbidden":
            yield f"{field}: no such key"
        elif detail["type"] == "missing":
            yield f"{field}: is missing"
        else:
            value = "" if isinstance(detail["input"], (dict, BaseModel)) else f"got {detail['input']!r}; "
            for message in detail["msg"].removeprefix("Value error, ").split("\n"):
                yield _sentence(where, field, f"{value}{message[0].lower()}{message[1:]}")


def _sentence(where: Sequence[str], field: str, message: str) -> str:
    """Return a line about a field; to a message that begins with a key (``frame='none' needs ...``) it is joined."""
    if _BEGINS_WITH_KEY.match(message):
        return ".".join([*where, message])
    return f"{field}: {message}"
