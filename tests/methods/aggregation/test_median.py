"""The median of each value, by hand."""

import pytest
import torch
from tests.methods.aggregation.models import merged, states

from onebasin.methods.aggregation.median import Median


@pytest.mark.parametrize(("values", "expected"), [((5.0, 1.0, 9.0), 5.0), ((5.0, 1.0, 9.0, 7.0), 6.0)])
def test_a_median_is_the_middle_or_the_mean_of_both_middles(values: tuple[float, ...], expected: float) -> None:
    after, _ = merged(Median(), states(*[[value] for value in values]))
    assert after["w"].tolist() == [expected]


def test_whole_numbers_and_flags_take_the_middle_one() -> None:
    rows = [{"n": torch.tensor(n), "b": torch.tensor([b])} for n, b in ((3, True), (2**62, False), (5, True))]
    after, _ = merged(Median(), rows)
    assert after["n"].item() == 5
    assert after["b"].tolist() == [True]
