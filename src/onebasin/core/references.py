"""A user's own data set or model, named as "package.module:factory"."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any


class FactoryError(ValueError):
    """A "package.module:factory" that names nothing callable; the message says at which step it failed."""


def build(reference: str, *arguments: Any, **options: Any) -> Any:
    """What the factory that "package.module:factory" names returns. Raises FactoryError, also for what it raises."""
    factory = resolve(reference)
    try:
        return factory(*arguments, **options)
    except Exception as error:  # a user's factory may raise anything
        raise FactoryError(f"{reference!r} cannot be called: {type(error).__name__}: {error}") from error


def resolve(reference: str) -> Callable[..., Any]:
    """The callable that "package.module:factory" names; the working directory is searched after the installed packages.

    Raises FactoryError. An error that the module itself raises while it is imported is passed on in it.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise FactoryError(f'{reference!r}: expected "package.module:factory"')
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise FactoryError(
            f"{reference!r}: module {module_name!r} cannot be imported ({type(error).__name__}: {error}); "
            f"expected an installed package, or a module in {here}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise FactoryError(f"{reference!r}: {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise FactoryError(f"{reference!r} is a {type(found).__name__}; expected something callable")
    return found  # type: ignore[no-any-return]
