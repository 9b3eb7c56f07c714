"""From bytes to normalised pictures."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def normalised(train: npt.NDArray[np.uint8], test: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Pictures [n, channels, height, width] as float32, with the mean and standard deviation of each training channel.

    The statistics are sums of integers, so they are the same on every machine. Gray pictures have one channel.
    """
    mean, deviation = _statistics(train)
    return _scaled(train, mean, deviation), _scaled(test, mean, deviation)


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
    # The integer form of the variance has no cancellation; a constant channel is left at its own scale.
    variance = np.array([(count * s - t * t) / count**2 for s, t in zip(squares, total, strict=True)])
    deviation = np.sqrt(variance)
    deviation[deviation == 0] = 1.0
    return mean.astype(np.float32), deviation.astype(np.float32)


def _scaled(images: npt.NDArray[np.uint8], mean: npt.NDArray[np.float32], deviation: npt.NDArray[np.float32]) -> Tensor:
    pictures = images.astype(np.float32)
    pictures -= mean[:, None, None]
    pictures /= deviation[:, None, None]
    return torch.from_numpy(pictures)


def compressed_size(path: Path) -> int:
    """The file's size if it is compressed (.gz, .xz), else what deflate at level 6 makes of it, in bytes."""
    if path.suffix in (".gz", ".xz"):
        return path.stat().st_size
    return len(zlib.compress(path.read_bytes(), 6))
