"""Seeds: every random choice of a run is named by a path from a number: the run's seed, or, for what codecs draw, its
64 bits that follow from the whole configuration (`Protocol.run`). So two runs of one seed that differ in anything share
their data, starts and batches, and not what their codecs draw.
"""

from hashlib import blake2b

import torch

SEED_BYTES = 8


def derive(seed: int, *path: str | int) -> int:
    """Return the 63-bit seed that belongs to `path` under `seed`, e.g. ``derive(0, "train", round, client)``.

    Different paths give independent streams; the same path gives the same seed on every machine and version.
    """
    digest = blake2b(repr((seed, *path)).encode(), digest_size=SEED_BYTES).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *path: str | int) -> torch.Generator:
    """Return a CPU generator seeded by `derive(seed, *path)`."""
    return torch.Generator().manual_seed(derive(seed, *path))
