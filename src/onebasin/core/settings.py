"""The base classes of all settings, which are frozen and refuse unknown keys, and types of fields that many share."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ConfigError(ValueError):
    """A configuration that cannot be run. The message names each wrong field, its value and what was expected."""


class Settings(BaseModel):
    """Settings of one part of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Choice(Settings):
    """Settings of a part that is chosen by name. `kind` is that name, or ``package.module:Name``.

    A built-in class sets the default of `kind`; any other class leaves it alone, and is named by its reference.
    `needs` and `run_needs` yield a sentence for each other choice of the method, or setting of the run, that the part
    cannot be combined with. The method and the run configuration collect these sentences; no other file lists them.
    """

    kind: str = ""

    @model_validator(mode="before")
    @classmethod
    def _called_by_its_reference(cls, value: Any) -> Any:
        """Fill in the name of a class that has none of its own."""
        if isinstance(value, dict) and "kind" not in value and not cls.model_fields["kind"].default:
            return {**value, "kind": f"{cls.__module__}:{cls.__qualname__}"}
        return value

    def needs(self, method: Any) -> Iterator[str]:
        """Yield a sentence for each choice of the method (`methods.method.Method`) that this one excludes."""
        yield from ()

    def run_needs(self, config: Any) -> Iterator[str]:
        """Yield a sentence for each setting of the run (`RunConfig`) that this choice excludes."""
        yield from ()


class WithOptions(BaseModel):
    """The name of a model or a partition, with options that the named function checks itself."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    kind: str

    @property
    def options(self) -> dict[str, Any]:
        """Return the options by name."""
        return dict(self.__pydantic_extra__ or {})


def named(value: Any, key: str) -> Any:
    """Return a string as the table ``{key: value}``, and any other value unchanged."""
    return {key: value} if isinstance(value, str) else value


def key_of_name(field: str) -> str:
    """Return the key that a string stands for if it replaces the table `field`: "name" for a method, else "kind"."""
    return "name" if field == "method" else "kind"


def by_kind(value: Any) -> Any:
    """Return a string as the table ``{"kind": value}``, and any other value unchanged."""
    return named(value, "kind")


Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
