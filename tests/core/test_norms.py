"""The length of an update over all of its tensors."""

import pytest
import torch

from onebasin.core.norms import length, shortened


def test_length_and_shortening() -> None:
    update = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}
    assert length(update) == 5.0
    assert {name: value.tolist() for name, value in shortened(update, 0.2).items()} == {
        "a": [pytest.approx(0.6), 0.0],
        "b": [[pytest.approx(0.8)]],
    }
