"""Engines: how requests reach clients and replies come back. They carry bytes and know nothing of methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from pydantic import SerializeAsAny, model_validator

from onebasin.core.choices import OpenChoice
from onebasin.core.clients import ClientId, Reply
from onebasin.core.registry import Registry
from onebasin.core.settings import Choice

if TYPE_CHECKING:
    from onebasin.federation.run_config import RunConfig
    from onebasin.learning.task import Task


class EngineError(RuntimeError):
    """The engine itself broke; the run can be resumed from its checkpoint."""


class Engine(Protocol):
    """One call a round, and the clients' states at a checkpoint."""

    def exchange(self, orders: Mapping[ClientId, bytes]) -> Iterator[Reply]:
        """Deliver the orders; yield one reply or failure for each, in any order, as they come."""
        ...

    def save(self, folder: Path, stamp: str) -> dict[ClientId, str]:
        """Write each client's state that changed since the last `save` into `folder`; return the file names."""
        ...

    def restore(self, folder: Path, files: Mapping[ClientId, str]) -> None:
        """Give the clients the states in these files, and the others an empty one."""
        ...

    def read_state(self, client: ClientId) -> bytes:
        """Return one client's state as it would be saved."""
        ...

    def close(self) -> None:
        """Let go of processes and memory."""
        ...


class EngineSettings(Choice):
    """Where clients run (setting `engine`).

    A file in `federation/engines/`, or ``package.module:Name``, defines one.
    """

    reads_client_state: ClassVar[bool] = True
    """Whether the server's process can read what clients remember."""
    clients_bring_data: ClassVar[bool] = False
    """Whether each client can bring examples of its own (`task.partition="own"`)."""

    @model_validator(mode="before")
    @classmethod
    def _without_foreign_settings(cls, value: Any) -> Any:
        """Drop settings of other built-in engines: a run's engine may be changed by its name alone."""
        if not isinstance(value, dict):
            return value
        return {key: each for key, each in value.items() if key not in SETTINGS_OF_ENGINES - cls.model_fields.keys()}

    def open(self, config: RunConfig, task: Task, link: Any) -> Engine:
        """Return the engine of a run. link: what the caller passed to `onebasin.run`, for engines that need one."""
        raise NotImplementedError

    def run_needs(self, config: Any) -> Any:
        if not self.reads_client_state and (config.method.data == "pooled" or config.method.score == "together"):
            yield (
                f"engine={self.kind!r} cannot run method={config.method.name!r}, which looks into what clients "
                "remember: that stays on their machines"
            )
        if not self.clients_bring_data and config.task.partition.kind == "own":
            yield "task.partition='own': examples are on the clients' machines; use engine='flower'"


SETTINGS_OF_ENGINES = frozenset({"workers", "superlink", "deadline", "quorum", "patience", "poll"})
"""The settings that built-in engines have, each its own; configurations of version 0.1 spell out all of them."""

ENGINES: Registry[EngineSettings] = Registry("engine", EngineSettings, "onebasin.federation.engines")
AnyEngine = Annotated[SerializeAsAny[EngineSettings], OpenChoice(ENGINES)]
