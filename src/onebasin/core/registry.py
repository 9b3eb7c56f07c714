"""Registries: the names that a configuration can use for one kind of part, such as stages or aggregation rules.

A name is one of three things: the file that defines the part, in this package (``top-k`` is `codecs/stages/top_k.py`);
an entry point of an installed package (group `onebasin`, name ``KIND.NAME``); or a reference ``package.module:Name``.
A module is imported when its name is first looked up.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from onebasin.core.references import FactoryError, resolve

GROUP = "onebasin"
"""The group of entry points that installed packages use to announce parts."""

T = TypeVar("T")


class UnknownName(ValueError):
    """A name that is not in a registry. The message lists the names that are."""


def announced(kind: str) -> Mapping[str, EntryPoint]:
    """Return name -> entry point of what installed packages announce of one kind."""
    points = entry_points(group=GROUP)
    return {p.name.removeprefix(f"{kind}."): p for p in points if p.name.startswith(f"{kind}.")}


def reference_of(kind: str, name: str) -> str | None:
    """Return the reference ``package.module:Name`` of a name from outside; None for a name that is none.

    A name from outside is such a reference itself, or one that an installed package announces.
    """
    if ":" in name:
        return name
    point = announced(kind).get(name)
    return None if point is None else point.value.replace(" ", "")


class Registry(Generic[T]):
    """The parts of one kind, by name.

    kind: the prefix of this kind's entry points, such as "stage". base: the class from which each part is derived, or,
    with `instances`, of which each part is an instance. package: the package whose files define the built-in parts, one
    part per file; files whose name starts with an underscore define none.
    """

    def __init__(self, kind: str, base: type[T], package: str, *, instances: bool = False) -> None:
        self.kind = kind
        self._base, self._package, self._instances = base, package, instances
        self._loaded: dict[str, Any] = {}

    @cached_property
    def built_in(self) -> Mapping[str, str]:
        """Return the built-in names, sorted, each with its module."""
        folder = import_module(self._package).__path__
        names = sorted(module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_"))
        return {name.replace("_", "-"): f"{self._package}.{name}" for name in names}

    @cached_property
    def announced(self) -> Mapping[str, EntryPoint]:
        """Return the names that installed packages announce, sorted, each with its entry point.

        An entry point with a built-in name is ignored.
        """
        points = announced(self.kind)
        return {name: points[name] for name in sorted(points.keys() - self.built_in.keys())}

    @property
    def names(self) -> list[str]:
        """Return all names but references: first the built-in ones, then the announced ones."""
        return [*self.built_in, *self.announced]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self.built_in or name in self.announced)

    def find(self, name: str) -> Any:
        """Return the part of that name: a class derived from the base, or an instance of it.

        Errors: `UnknownName` if there is none; `FactoryError` if a reference or an entry point leads to no such part.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def entries(self) -> Iterator[tuple[str, Any]]:
        """Yield each name with its entry; an announced one that cannot be used with the `FactoryError`."""
        for name in self.names:
            try:
                yield name, self.find(name)
            except FactoryError as error:
                yield name, error

    def _load(self, name: str) -> Any:
        if name in self.built_in:
            return self._defined_in(self.built_in[name])
        reference = reference_of(self.kind, name)
        if reference is None:
            raise UnknownName(f"expected one of {', '.join(self.names)}, or package.module:Name")
        found = resolve(reference)
        if not self._is_part(found):
            expected = "an instance" if self._instances else "a subclass"
            base_name = f"{self._base.__module__}.{self._base.__name__}"
            raise FactoryError(f"{reference!r} is {found!r}; expected {expected} of {base_name}")
        return found

    def _defined_in(self, module_name: str) -> Any:
        module = import_module(module_name)
        found = [
            thing
            for name, thing in vars(module).items()
            if not name.startswith("_")
            and self._is_part(thing)
            and (self._instances or thing.__module__ == module_name)
        ]
        assert len(found) == 1, f"{module_name} defines {len(found)} entries of kind {self.kind}; expected one"
        return found[0]

    def _is_part(self, thing: Any) -> bool:
        if self._instances:
            return isinstance(thing, self._base)
        return isinstance(thing, type) and issubclass(thing, self._base) and thing is not self._base
