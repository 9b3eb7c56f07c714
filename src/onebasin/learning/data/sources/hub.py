"""The Hugging Face hub: download one file of a data set repository, read its parquet format."""

from __future__ import annotations

import io
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import numpy.typing as npt

from onebasin.learning.data.examples import DatasetCorrupt, DatasetNotFound

_EXTRA = "pip install 'onebasin[hub]'"


def download(repository: str, file: str, revision: str | None = None) -> Path:
    """Download one file of a hub data set and return its local path. Raises DatasetNotFound, with the reason."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.constants import ENDPOINT
    except ImportError as error:
        raise DatasetNotFound(f"{repository} needs the optional package huggingface_hub: {_EXTRA}") from error
    # Without a network the hub's client retries for half a minute; offline it looks in its own cache only.
    offline = not _has_address(ENDPOINT)
    try:
        return Path(hf_hub_download(repository, file, repo_type="dataset", revision=revision, local_files_only=offline))
    except Exception as error:  # the client's errors (no network, no file, access refused) share no other base class
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if offline:
            reason = f"{ENDPOINT} cannot be reached from here"
        raise DatasetNotFound(f"{repository}/{file}: {reason}") from error


def _has_address(url: str) -> bool:
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(url).hostname, None)
    except OSError:
        return False
    return True


def read_images(
    path: Path, image_column: str, label_column: str, mode: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Read images and labels from a parquet file with columns image = {bytes: a PNG, path} and label = an integer.

    mode: Pillow's image mode, "L" or "RGB".
    Returns images uint8 [n, height, width] for "L", [n, height, width, 3] for "RGB", and labels uint8 [n].
    Raises DatasetCorrupt, or DatasetNotFound if pyarrow or Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DatasetNotFound(f"{path.name} needs the optional package pillow: {_EXTRA}") from error
    columns = read_columns(path, image_column, label_column)
    try:
        images = [np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert(mode)) for cell in columns[0]]
        return np.stack(images), np.array(columns[1], dtype=np.uint8)
    except (TypeError, KeyError, ValueError, OSError, OverflowError) as error:
        raise DatasetCorrupt(
            f"{path}: a row cannot be decoded ({error}); expected {image_column} = {{bytes: a picture}} "
            f"of one size and {label_column} from 0 to 255"
        ) from error


def read_columns(path: Path, *names: str) -> list[list[Any]]:
    """Read columns of a parquet file as Python lists. Raises DatasetCorrupt, or DatasetNotFound without pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DatasetNotFound(f"{path.name} needs the optional package pyarrow: {_EXTRA}") from error
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetCorrupt(f"{path}: not a readable parquet file ({error})") from error
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise DatasetCorrupt(f"{path}: columns {table.column_names}; expected {list(names)}")
    return [table.column(name).to_pylist() for name in names]
