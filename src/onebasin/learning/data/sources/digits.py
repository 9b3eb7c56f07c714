"""Handwritten digits, 8x8 scans (Alpaydin and Kaynak 1998), bundled with scikit-learn: needs no files, no network."""

from __future__ import annotations

import lzma

import numpy as np
import torch

from onebasin.learning.data.examples import Dataset, Split
from onebasin.learning.data.sources.pixels import normalise

TEST_EXAMPLES = 360
SPLIT_SEED = 0


def load() -> Dataset:
    """Load 1,437 training and 360 test images [1, 8, 8] of ten digits, in a fixed stratified split (seed 0).

    `compressed_bytes` is the xz-compressed size of the training pixels (0 to 16, one byte each) and labels.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.uint8)
    order = np.arange(len(labels))
    train, test = train_test_split(order, test_size=TEST_EXAMPLES, random_state=SPLIT_SEED, stratify=labels)
    inputs = normalise(images[train], images[test])
    return Dataset(
        name="digits",
        train=Split(inputs[0], torch.from_numpy(labels[train].astype(np.int64))),
        test=Split(inputs[1], torch.from_numpy(labels[test].astype(np.int64))),
        class_names=tuple("0123456789"),
        owner_names=(),
        compressed_bytes=len(lzma.compress(images[train].tobytes() + labels[train].tobytes())),
        source="embedded",
    )
