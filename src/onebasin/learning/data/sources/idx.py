"""MNIST's IDX format (LeCun, Cortes, Burges): a magic number, big-endian sizes, unsigned bytes; plain or gzipped."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onebasin.learning.data.examples import DatasetCorrupt
from onebasin.learning.data.sources.data_files import atomic_replacement

_UNSIGNED_BYTES = 0x08


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read an IDX file, gzipped if its name ends in .gz, into a uint8 array.

    dimensions: the expected number of array dimensions.
    Raises DatasetCorrupt.
    """
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetCorrupt(f"{path}: not a whole gzip file ({error}); expected a gzipped IDX file") from error
    header = 4 + 4 * dimensions
    magic = bytes((0, 0, _UNSIGNED_BYTES, dimensions))
    if raw[:4] != magic:
        raise DatasetCorrupt(f"{path}: begins with the bytes {raw[:4].hex(' ')}; expected {magic.hex(' ')}")
    if len(raw) < header:
        raise DatasetCorrupt(f"{path}: {len(raw)} bytes (unpacked); expected a header of {header} bytes")
    shape = struct.unpack(f">{dimensions}I", raw[4:header])
    expected = header + int(np.prod(shape, dtype=np.int64))
    if len(raw) != expected:
        raise DatasetCorrupt(f"{path}: {len(raw)} bytes (unpacked); expected {expected} for its sizes {list(shape)}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def write_idx_gz(path: Path, array: npt.NDArray[np.uint8]) -> None:
    """Write an array as a gzipped IDX file, atomically. Equal arrays give equal files."""
    header = bytes((0, 0, _UNSIGNED_BYTES, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    with atomic_replacement(path) as temporary:
        temporary.write_bytes(gzip.compress(header + array.tobytes(), 6, mtime=0))
