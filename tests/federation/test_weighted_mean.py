"""Running weighted means: exact numbers, fixed-order sums, whole numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from onebasin.core.layout import Layout, Tensors
from onebasin.federation.weighted_mean import WeightedMean

LAYOUT = Layout.of({"w": torch.zeros(2), "n": torch.tensor(0), "b": torch.tensor([True])})


def tensors(w: list[float], n: int = 0, b: bool = False) -> Tensors:
    return {"w": torch.tensor(w), "n": torch.tensor(n), "b": torch.tensor([b])}


def test_floats_are_averaged_by_weight_and_whole_numbers_keep_their_maximum() -> None:
    # w = (1 * [1, 2] + 3 * [5, -2]) / 4 = [4, -1]
    mean = WeightedMean(LAYOUT)
    mean.add(tensors([1.0, 2.0], n=9, b=True), 1.0)
    mean.add(tensors([5.0, -2.0], n=4), 3.0)
    assert mean.weight == 4.0
    assert mean.sums["w"].tolist() == [16.0, -4.0]
    found = mean.result()
    assert {name: value.tolist() for name, value in found.items()} == {"w": [4.0, -1.0], "n": 9, "b": [True]}
    assert [value.dtype for value in found.values()] == [torch.float32, torch.int64, torch.bool]


def test_sums_are_of_double_precision() -> None:
    # in float32 2^25 + 1 would be 2^25, three times
    mean = WeightedMean(Layout.of({"w": torch.zeros(1)}))
    for value in (2.0**25, 1.0, 1.0, 2.0):
        mean.add({"w": torch.tensor([value])}, 1.0)
    assert mean.result()["w"].tolist() == [2.0**23 + 1]


def test_one_reply_is_its_own_mean() -> None:
    mean = WeightedMean(LAYOUT)
    mean.add(tensors([0.25, -8.0], n=3), 7.0)
    assert mean.result()["w"].tolist() == [0.25, -8.0]


def test_what_is_added_and_what_is_returned_stay_as_they_are() -> None:
    mean, first = WeightedMean(LAYOUT), tensors([1.0, 1.0], n=2)
    mean.add(first, 1.0)
    found = mean.result()
    mean.add(tensors([9.0, 9.0], n=9), 1.0)
    assert first["w"].tolist() == found["w"].tolist() == [1.0, 1.0]
    assert first["n"].item() == found["n"].item() == 2


def test_sums_can_be_changed_if_there_are_any() -> None:
    mean = WeightedMean(Layout.of({"w": torch.zeros(1)}))
    mean.change(lambda sums: {"w": sums["w"] + 1})
    assert mean.sums == {}
    mean.add({"w": torch.tensor([3.0])}, 2.0)
    mean.change(lambda sums: {"w": sums["w"] + 4})
    assert mean.result()["w"].tolist() == [5.0]


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="the mean of no replies"):
        WeightedMean(LAYOUT).result()


VALUES = st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3).map(torch.tensor)


@given(st.lists(st.tuples(VALUES, st.integers(1, 1000)), min_size=1, max_size=6))
def test_the_mean_is_between_the_smallest_and_the_largest(rows: list[tuple[Tensor, int]]) -> None:
    layout = Layout.of({"w": torch.zeros(3)})
    one, again = WeightedMean(layout), WeightedMean(layout)
    for mean in (one, again):
        for value, weight in rows:
            mean.add({"w": value}, float(weight))
    found, all_rows = one.result()["w"], torch.stack([value for value, _ in rows])
    assert torch.equal(found, again.result()["w"]), "the same order gives the same bits"
    assert bool(((found >= all_rows.amin(0)) & (found <= all_rows.amax(0))).all())
    weights = torch.tensor([weight for _, weight in rows], dtype=torch.float64)
    expected = (all_rows.double() * weights[:, None]).sum(0) / weights.sum()
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
