"""Normalise images; measure their compressed size."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def normalise(train: npt.NDArray[np.uint8], test: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Standardise both splits with the mean and standard deviation of each training channel.

    The statistics are computed from sums of integers, so they are equal on every machine.
    train: uint8 [n, channels, height, width]; gray images have one channel.
    test: uint8 [m, channels, height, width].
    Returns float32 tensors of the same shapes.
    """
    mean, deviation = _statistics(train)
    return _standardise(train, mean, deviation), _standardise(test, mean, deviation)


def _statistics(images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    channels = images.shape[1]
    count = images.size // channels
    total = [0] * channels
    squares = [0] * channels
    for block in np.array_split(images, max(1, len(images) // 1000)):
        for channel in range(channels):
            values = block[:, channel]
            total[channel] += int(values.sum(dtype=np.int64))
            squares[channel] += int(np.square(values, dtype=np.uint16).sum(dtype=np.int64))
    mean = np.array([t / count for t in total])
    # The integer form of the variance has no cancellation. A constant channel is centred but not scaled.
    variance = np.array([(count * s - t * t) / count**2 for s, t in zip(squares, total, strict=True)])
    deviation = np.sqrt(variance)
    deviation[deviation == 0] = 1.0
    return mean.astype(np.float32), deviation.astype(np.float32)


def _standardise(
    images: npt.NDArray[np.uint8], mean: npt.NDArray[np.float32], deviation: npt.NDArray[np.float32]
) -> Tensor:
    values = images.astype(np.float32)
    values -= mean[:, None, None]
    values /= deviation[:, None, None]
    return torch.from_numpy(values)


def compressed_size(path: Path) -> int:
    """Return the size of a .gz or .xz file, or the deflated size (level 6) of any other file, in bytes."""
    if path.suffix in (".gz", ".xz"):
        return path.stat().st_size
    return len(zlib.compress(path.read_bytes(), 6))
