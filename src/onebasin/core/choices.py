"""A field whose value is chosen by name from a registry, with the settings of what was chosen."""

from __future__ import annotations

from typing import Any, Literal, get_origin

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from onebasin.core.references import FactoryError, is_outside
from onebasin.core.registry import Registry, UnknownName
from onebasin.core.settings import Choice, by_kind

NESTED = "settings_of_choice"
"""The type of an error that carries, as `errors`, those of a choice's own settings."""


class OpenChoice:
    """Reads a name, or a table with a `kind` and settings, as the registry's class of that name.

    Used as an annotation: ``Annotated[SerializeAsAny[Base], OpenChoice(REGISTRY)]``. Built-in names, names that
    installed packages announce and ``package.module:Name`` are read alike.
    """

    def __init__(self, registry: Registry[Any]) -> None:
        self._registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def _read(self, value: Any) -> Any:
        if isinstance(value, Choice):
            return value
        table = by_kind(value)
        if not isinstance(table, dict) or not isinstance(table.get("kind"), str):
            raise PydanticCustomError("not_a_choice", "expected a name, or a table with its kind and settings")
        try:
            chosen = self._registry.find(table["kind"])
        except (UnknownName, FactoryError) as error:
            where = "" if isinstance(value, str) else f"got {table['kind']!r}; "
            raise PydanticCustomError("unknown_name", "{problem}", {"problem": f"{where}{error}"}) from None
        if is_outside(chosen) and get_origin(chosen.model_fields["kind"].annotation) is Literal:
            problem = f"got {table['kind']!r}; a class from outside declares kind: str = ''"
            raise PydanticCustomError("own_name", "{problem}", {"problem": problem})
        try:
            return chosen.model_validate(table)
        except ValidationError as error:
            raise PydanticCustomError(
                NESTED,
                "{count} settings are wrong",
                {"count": error.error_count(), "kind": table["kind"], "errors": error.errors(include_url=False)},
            ) from None
