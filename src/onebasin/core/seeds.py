"""Seeds: every random choice has a seed of its own, derived from a number and a path such as "train", round, client.

The number is the run's seed or, in codecs, `Protocol.run`: 64 bits of the digest of the whole configuration. So two
runs with the same seed but different configurations share data, initial weights and batches, while their codecs draw
different random numbers.
"""

from hashlib import blake2b

import torch

SEED_BYTES = 8


def derive(seed: int, *path: str | int) -> int:
    """Return the 63-bit seed of a path, e.g. ``derive(0, "train", round, client)``: a BLAKE2b digest.

    Different paths give independent random numbers. The same path gives the same seed on every machine and version.
    """
    digest = blake2b(repr((seed, *path)).encode(), digest_size=SEED_BYTES).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *path: str | int) -> torch.Generator:
    """Return a CPU generator with the seed `derive(seed, *path)`."""
    return torch.Generator().manual_seed(derive(seed, *path))
