"""The states of a client on its device: one file for each state to which the server may still return."""

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from onebasin.core.atomic_write import write_atomically
from onebasin.core.state import State, StateError

EMPTY = ""
"""The digest of an empty state, which has no file."""

_FILE = re.compile(r"(\d{10})-([0-9a-f]{32})\.safetensors")


class StateLost(ValueError):
    """The state from which a request starts is missing or damaged."""


class States:
    """The states of one client in one run. A file's name has the round that wrote it, and a digest of its content.

    A request names the digest of the state from which the client must start. A server that resumes from its checkpoint
    repeats a round from the state before it. So that state is kept until a request of a later round shows that the
    server has completed the round.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other processes."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self, digest: str) -> State:
        """Return the state with this digest. Raises StateLost if it is missing or damaged."""
        if digest == EMPTY:
            return State()
        found = [path for path, _, known in self._files() if known == digest]
        try:
            return State.from_bytes(found[0].read_bytes())
        except (IndexError, OSError, StateError):
            raise StateLost(f"this node has no state {digest!r} of the run any more; it begins anew") from None

    def save(self, round: int, before: str, state: State) -> str:
        """Write the state after a request, delete states that are no longer needed, and return the digest.

        round: of the request. before: the digest of the state from which the client started.
        """
        data = state.to_bytes()
        digest = blake2b(data, digest_size=16).hexdigest() if state.slots or state.facts else EMPTY
        if digest not in (EMPTY, before):
            write_atomically(self.folder / f"{round:010d}-{digest}.safetensors", data)
        files = self._files()
        if (round, before) not in [(written_in, known) for _, written_in, known in files]:
            for path, written_in, known in files:
                if written_in < round and known not in (before, digest):
                    path.unlink()
        return digest

    def _files(self) -> list[tuple[Path, int, str]]:
        """Return path, round and digest of each state in the folder."""
        matched = ((path, _FILE.fullmatch(path.name)) for path in sorted(self.folder.iterdir()))
        return [(path, int(match[1]), match[2]) for path, match in matched if match]
