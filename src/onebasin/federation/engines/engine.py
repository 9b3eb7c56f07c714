"""What every engine offers to the round loop."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ClientId = int


@dataclass(frozen=True)
class Failure:
    """A client that was asked and did not answer, and why."""

    reason: str


class EngineError(RuntimeError):
    """The engine itself broke; the run can be resumed from its checkpoint."""


Reply = tuple[ClientId, bytes | Failure]


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
