"""What a client remembers of a run, on the device: a file for each state that the server may still come back to."""

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from onebasin.core.atomic_write import write_atomically
from onebasin.core.state import State, StateError

NOTHING = ""
"""The mark of an empty state, for which there is no file."""

_FILE = re.compile(r"(\d{10})-([0-9a-f]{32})\.safetensors")


class StateLost(ValueError):
    """The state that an order begins from is not here, or is damaged."""


class States:
    """The states of one client in one run, named by the round they are from and a mark, a hash of what they hold.

    An order says from which mark it begins. A server that goes on from its checkpoint asks for the mark that a round
    began from, so that state is kept until an order of the next round shows that the server is beyond it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no other process use the folder meanwhile."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self, mark: str) -> State:
        """Return the state of this mark; `StateLost` if it is not here."""
        if mark == NOTHING:
            return State()
        found = [path for path, _, known in self._files() if known == mark]
        try:
            return State.from_bytes(found[0].read_bytes())
        except (IndexError, OSError, StateError):
            raise StateLost(f"this node has no state {mark!r} of the run any more; it begins anew") from None

    def keep(self, round: int, begun_from: str, state: State) -> str:
        """Write the state after an order of `round`, drop what no order will begin from any more; return its mark."""
        data = state.to_bytes()
        mark = blake2b(data, digest_size=16).hexdigest() if state.slots or state.facts else NOTHING
        if mark not in (NOTHING, begun_from):
            write_atomically(self.folder / f"{round:010d}-{mark}.safetensors", data)
        files = self._files()
        if (round, begun_from) not in [(written_in, known) for _, written_in, known in files]:
            for path, written_in, known in files:
                if written_in < round and known not in (begun_from, mark):
                    path.unlink()
        return mark

    def _files(self) -> list[tuple[Path, int, str]]:
        matched = ((path, _FILE.fullmatch(path.name)) for path in sorted(self.folder.iterdir()))
        return [(path, int(match[1]), match[2]) for path, match in matched if match]
