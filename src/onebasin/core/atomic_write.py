"""Writing of files such that neither a reader nor a restart after a crash finds an incomplete file."""

import os
from collections.abc import Iterable
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`. If the process dies before the end, the old file stays as it was.

    Errors: `OSError`, which names `path`, if the disk refuses.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append lines to a file, and return when they are on the disk. Errors: `OSError`."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
