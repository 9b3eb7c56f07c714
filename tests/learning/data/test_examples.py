"""Splits and data sets reject inconsistent fields and name the field."""

from dataclasses import replace

import pytest
import torch
from tests.learning.toy_data import classification, text

from onebasin.learning.data.load import Split


def test_length_classes_and_sequence() -> None:
    images = classification([0, 1, 2, 1], classes=5)
    assert (len(images.train), images.classes, images.sequence) == (4, 5, False)
    letters = text(3, vocabulary=7)
    assert (len(letters.train), letters.classes, letters.sequence) == (3, 7, True)


@pytest.mark.parametrize(
    ("inputs", "targets", "owners", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3), None, r"targets: float32 \[3\]; expected int64"),
        (torch.zeros(3, 2), torch.zeros(3, 2, 2, dtype=torch.int64), None, r"targets: int64 \[3, 2, 2\]"),
        (torch.zeros(2, 2), torch.zeros(3, dtype=torch.int64), None, r"inputs: float32 \[2, 2\].*3 targets"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64), "owners: int64"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), torch.zeros(3), "owners: float32"),
    ],
)
def test_an_inconsistent_split_is_rejected(
    inputs: torch.Tensor, targets: torch.Tensor, owners: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Split(inputs, targets, owners)


def test_an_inconsistent_dataset_is_rejected() -> None:
    good = classification([0, 1, 2], owners=[0, 0, 1])
    with pytest.raises(ValueError, match=r"toy.train.targets: values from 0 to 2; expected 0 to 1"):
        replace(good, class_names=("a", "b"))
    with pytest.raises(ValueError, match=r"toy.train.owners: values from 0 to 1; expected 0 to 0"):
        replace(good, owner_names=("a",))
    empty = Split(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"toy.test: no examples"):
        replace(good, test=empty)
    with pytest.raises(ValueError, match=r"test.inputs: examples of shape \[3\]; expected \[2\]"):
        replace(good, test=Split(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64)))
    with pytest.raises(ValueError, match="disagree"):
        replace(good, test=Split(torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.int64)))
