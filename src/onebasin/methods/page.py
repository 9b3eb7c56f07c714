"""The page of a method: its settings, and those of a run that its paper asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onebasin.core.references import FactoryError
from onebasin.core.registry import Registry, UnknownName
from onebasin.core.settings import ConfigError
from onebasin.methods.method import Method


@dataclass(frozen=True)
class Page:
    """A method that configurations can name. A file in `methods/pages/`, or ``package.module:NAME``, defines one.

    method: its settings; the user's configuration overrides them.
    summary: one line, for `onebasin list methods`.
    settings: other tables of a run, such as `training`, that the method needs; the user's configuration overrides them.
    """

    method: Method
    summary: str
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


PAGES: Registry[Page] = Registry("method", Page, "onebasin.methods.pages", instances=True)


def load_page(name: str) -> Page:
    """Return the page of a method. Raises ConfigError, which lists the known methods, if there is none."""
    try:
        page: Page = PAGES.find(name)
    except UnknownName:
        names = ", ".join(PAGES.names)
        raise ConfigError(
            f"method: got {name!r}; expected one of {names}, package.module:NAME, or the path of a .toml file"
        ) from None
    except FactoryError as error:
        raise ConfigError(f"method: {error}") from None
    return page
