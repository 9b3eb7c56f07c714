"""The base of engines, which carry requests to clients and replies back, as bytes. They know nothing of methods."""

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
    """The engine failed, rather than a client. The run can be resumed from its checkpoint."""


class Engine(Protocol):
    """What the round loop needs of an engine: one call per exchange, and the clients' states at a checkpoint."""

    def exchange(self, requests: Mapping[ClientId, bytes]) -> Iterator[Reply]:
        """Deliver requests, and yield one reply or failure for each client as they arrive, in any order.

        Raises EngineError if the engine fails.
        """
        ...

    def save(self, folder: Path, stamp: str) -> dict[ClientId, str]:
        """Write the client states that changed since the last call to a folder; return the file names by client.

        stamp: a part of the file names, different in each call.
        """
        ...

    def restore(self, folder: Path, files: Mapping[ClientId, str]) -> None:
        """Restore the client states from these files; clients without a file get an empty state."""
        ...

    def read_state(self, client: ClientId) -> bytes:
        """Return the state of one client, serialised as in `save`."""
        ...

    def close(self) -> None:
        """End processes and free memory."""
        ...


class EngineSettings(Choice):
    """Where clients run (setting `engine`).

    A file in `federation/engines/`, or ``package.module:Name``, defines one.
    """

    reads_client_state: ClassVar[bool] = True
    """Whether the server's process can read the clients' states."""
    clients_bring_data: ClassVar[bool] = False
    """Whether each client can have examples of its own (`task.partition="own"`)."""

    @model_validator(mode="before")
    @classmethod
    def _without_foreign_settings(cls, value: Any) -> Any:
        """Ignore the settings of other built-in engines, so that a run's engine can be changed by its name alone."""
        if not isinstance(value, dict):
            return value
        foreign = BUILT_IN_SETTINGS - cls.model_fields.keys()
        return {key: setting for key, setting in value.items() if key not in foreign}

    def open(self, config: RunConfig, task: Task, link: Any) -> Engine:
        """Create the engine of a run.

        link: the connection that the caller passed to `onebasin.run`, for engines that need one; else None.
        """
        raise NotImplementedError

    def run_needs(self, config: Any) -> Any:
        """Yield a sentence for each setting of the run (`RunConfig`) that does not go with the engine."""
        if not self.reads_client_state and (config.method.data == "pooled" or config.method.score == "together"):
            yield (
                f"engine={self.kind!r} cannot run method={config.method.name!r}, which looks into what clients "
                "remember: that stays on their machines"
            )
        if not self.clients_bring_data and config.task.partition.kind == "own":
            yield "task.partition='own': examples are on the clients' machines; use engine='flower'"


BUILT_IN_SETTINGS = frozenset({"workers", "superlink", "deadline", "quorum", "patience", "poll"})
"""The settings of all built-in engines; configurations written by version 0.1 have all of them."""

ENGINES: Registry[EngineSettings] = Registry("engine", EngineSettings, "onebasin.federation.engines")
AnyEngine = Annotated[SerializeAsAny[EngineSettings], OpenChoice(ENGINES)]
