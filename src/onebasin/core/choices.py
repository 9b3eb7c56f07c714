"""Fields of settings whose value is a registered class, chosen by name, with settings of its own."""

from __future__ import annotations

from typing import Any, Literal, get_origin

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from onebasin.core.references import FactoryError, is_outside
from onebasin.core.registry import Registry, UnknownName
from onebasin.core.settings import Choice, by_kind

NESTED = "settings_of_choice"
"""The type of a validation error whose context has, as `errors`, the errors of the choice's own settings."""


class OpenChoice:
    """Annotation of a field that reads a name, or a table with `kind` and settings, as an instance of that class.

    Usage: ``Annotated[SerializeAsAny[Base], OpenChoice(REGISTRY)]``. The name is a built-in one, one that an installed
    package announces, or ``package.module:Name``. An instance of `Choice` is accepted as it is.
    Errors (of validation): not a name or table, an unknown name, or wrong settings; `tables.validate` describes them.
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
            choice_class = self._registry.find(table["kind"])
        except (UnknownName, FactoryError) as error:
            prefix = "" if isinstance(value, str) else f"got {table['kind']!r}; "
            raise PydanticCustomError("unknown_name", "{problem}", {"problem": f"{prefix}{error}"}) from None
        own_name = choice_class.model_fields["kind"].default
        if own_name in self._registry.built_in and self._registry.find(own_name) is choice_class:
            table = {**table, "kind": own_name}  # a built-in part that was named by its reference
        if is_outside(choice_class) and get_origin(choice_class.model_fields["kind"].annotation) is Literal:
            problem = f"got {table['kind']!r}; a class from outside declares kind: str = ''"
            raise PydanticCustomError("own_name", "{problem}", {"problem": problem})
        try:
            return choice_class.model_validate(table)
        except ValidationError as error:
            raise PydanticCustomError(
                NESTED,
                "{count} settings are wrong",
                {"count": error.error_count(), "kind": table["kind"], "errors": error.errors(include_url=False)},
            ) from None
