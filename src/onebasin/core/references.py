"""References: code from outside the package, named as "package.module:Name"."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from pathlib import Path
from types import FunctionType
from typing import Any


class FactoryError(ValueError):
    """A reference "package.module:Name" that cannot be used. The message names the step that failed."""


DIGEST_BYTES = 8
"""The length of `source_digest`, in bytes."""


def build(reference: str, *arguments: Any, **options: Any) -> Any:
    """Call the factory that "package.module:factory" names with the arguments and options, and return its result.

    Errors: `FactoryError` if the reference names nothing callable, or if the factory raises anything.
    """
    factory = resolve(reference)
    if not callable(factory):
        raise FactoryError(f"{reference!r} is a {type(factory).__name__}; expected something callable")
    try:
        return factory(*arguments, **options)
    except Exception as error:  # a user's factory may raise anything
        raise FactoryError(f"{reference!r} cannot be called: {type(error).__name__}: {error}") from error


def resolve(reference: str) -> Any:
    """Return the object that "package.module:Name" names.

    The module is an installed one, or one in the working directory. `Name` may have dots, for a class in a class.
    Errors: `FactoryError` if the text has another form, the import raises anything, or the module has no such name.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise FactoryError(f'{reference!r}: expected "package.module:factory"')
    working_directory = os.getcwd()
    if working_directory not in sys.path:
        sys.path.append(working_directory)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise FactoryError(
            f"{reference!r}: module {module_name!r} cannot be imported ({type(error).__name__}: {error}); "
            f"expected an installed package, or a module in {working_directory}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise FactoryError(f"{reference!r}: {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    return found


def is_outside(thing: Any) -> bool:
    """Return whether a class or function is defined outside of the package onebasin."""
    return bool(thing.__module__.partition(".")[0] != "onebasin")


def outside_sources(things: Iterable[Any]) -> dict[str, str]:
    """Return ``module:name`` -> digest of the source of those classes and functions that are from outside.

    PyTorch's are left out: they are known by their names. Any other object stands for its class.
    """
    defined = [thing if isinstance(thing, type | FunctionType) else type(thing) for thing in things]
    return {
        f"{thing.__module__}:{thing.__qualname__}": source_digest(thing)
        for thing in defined
        if is_outside(thing) and thing.__module__.partition(".")[0] != "torch"
    }


@cache
def source_digest(thing: Any) -> str:
    """Return 16 hex digits of the BLAKE2b digest of the file that defines a class or function.

    Returns "" if there is no such file, as for a class that was defined in an interactive session.
    The file is read once: a change while the code is in use is a change for the next process.
    """
    try:
        file = inspect.getsourcefile(thing)
        return blake2b(Path(file or "").read_bytes(), digest_size=DIGEST_BYTES).hexdigest()
    except (OSError, TypeError):
        return ""
