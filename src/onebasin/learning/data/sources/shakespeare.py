"""Tiny Shakespeare (Karpathy 2015), next-character prediction, by speaking role as in LEAF (Caldas et al. 2018)."""

from __future__ import annotations

import bz2
import hashlib
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from onebasin.learning.data.examples import Dataset, DatasetCorrupt, Split
from onebasin.learning.data.sources import hub
from onebasin.learning.data.sources.data_files import DataFolders, FileSet, atomic_replacement, locate

FILE = "input.txt"
BYTES = 1_115_394
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
VOCABULARY = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH = 80
SHORTEST_ROLE = 1000
TRAIN_FRACTION = 0.8

REPOSITORY = "karpathy/tiny_shakespeare"
# The repository's main branch has only a loading script; this commit has the text itself, as parquet.
REVISION = "fe12e06d82fe3af4291b90426557387520d81385"


def load(folders: DataFolders) -> Dataset:
    """Load sequences of 80 token ids; the targets are the ids of the 80 next characters. Owners are speaking roles.

    The text of a role is its speeches in order, joined by newlines, without the role's name. Roles of fewer than 1,000
    characters are left out: 141 of 309 remain. The first 80% of a role's text is divided into training sequences, the
    rest into test sequences, without overlap; an incomplete last sequence is dropped. Token ids are indices into
    `VOCABULARY`, the 65 characters of the whole text in code order. `compressed_bytes` is the bzip2-compressed size of
    the training text.
    Raises DatasetNotFound, DatasetCorrupt.
    """
    found = locate(
        "shakespeare",
        [FileSet((FILE,))],
        folders,
        ("shakespeare", "tinyshakespeare"),
        download=lambda: _download(folders.cache_dir / "shakespeare"),
        remedy="put input.txt of github.com/karpathy/char-rnn (data/tinyshakespeare) into DIR/shakespeare/ and set "
        "ONEBASIN_DATA=DIR; or, where there is internet, pip install 'onebasin[hub]'",
    )
    roles = _roles(found.paths[FILE])
    split_texts = {name: _split_text(text) for name, text in roles.items()}
    return Dataset(
        name="shakespeare",
        train=_sequences([train for train, _ in split_texts.values()]),
        test=_sequences([test for _, test in split_texts.values()]),
        class_names=tuple(VOCABULARY),
        owner_names=tuple(roles),
        compressed_bytes=len(bz2.compress("\n\n".join(train for train, _ in split_texts.values()).encode())),
        source=found.source,
    )


def _roles(path: Path) -> dict[str, str]:
    raw = path.read_bytes()
    if len(raw) != BYTES:
        raise DatasetCorrupt(f"{path}: {len(raw)} bytes; expected {BYTES}")
    unknown = set(raw) - set(VOCABULARY.encode())
    if unknown:
        raise DatasetCorrupt(f"{path}: the byte {min(unknown)}; expected only the {len(VOCABULARY)} known characters")
    speeches: dict[str, list[str]] = {}
    for speech in re.split(r"\n{2,}", raw.decode().strip("\n")):
        name, _, lines = speech.partition("\n")
        if not name.endswith(":"):
            raise DatasetCorrupt(f"{path}: a speech begins with {name[:40]!r}; expected the role's name and a colon")
        speeches.setdefault(name[:-1], []).append(lines)
    roles = {name: "\n".join(lines) for name, lines in speeches.items()}
    long = {name: text for name, text in roles.items() if len(text) >= SHORTEST_ROLE}
    if not long:
        raise DatasetCorrupt(f"{path}: no role has {SHORTEST_ROLE} characters")
    return long


def _split_text(text: str) -> tuple[str, str]:
    end = int(TRAIN_FRACTION * len(text))
    return text[:end], text[end:]


def _sequences(texts: list[str]) -> Split:
    codes = np.zeros(128, dtype=np.int64)
    codes[list(VOCABULARY.encode())] = np.arange(len(VOCABULARY))
    inputs: list[npt.NDArray[np.int64]] = []
    targets: list[npt.NDArray[np.int64]] = []
    for text in texts:
        ids = codes[np.frombuffer(text.encode(), np.uint8)]
        end = (len(ids) - 1) // LENGTH * LENGTH
        inputs.append(ids[:end].reshape(-1, LENGTH))
        targets.append(ids[1 : end + 1].reshape(-1, LENGTH))
    owners = np.repeat(np.arange(len(texts)), [len(part) for part in inputs])
    return Split(
        torch.from_numpy(np.concatenate(inputs)),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(owners.astype(np.int64)),
    )


def _download(folder: Path) -> str:
    parts = []
    for part in ("train", "validation", "test"):
        table = hub.download(REPOSITORY, f"data/{part}-00000-of-00001.parquet", REVISION)
        parts.extend(hub.read_columns(table, "text")[0])
    text = "".join(parts).encode()
    found = hashlib.sha256(text).hexdigest()
    if found != SHA256:
        raise DatasetCorrupt(f"{REPOSITORY}: the text's SHA-256 is {found}; expected {SHA256}")
    with atomic_replacement(folder / FILE) as temporary:
        temporary.write_bytes(text)
    return REPOSITORY
