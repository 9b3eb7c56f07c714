"""What the rules that bound hostile clients share."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.methods.aggregation.models import merged, states

from onebasin.methods.aggregation.krum import Krum
from onebasin.methods.aggregation.median import Median
from onebasin.methods.aggregation.trimmed_mean import TrimmedMean
from onebasin.methods.aggregation_rule import TooFewReplies


@given(
    st.lists(st.lists(st.floats(-(2.0**20), 2.0**20, width=32), min_size=3, max_size=3), min_size=4, max_size=7),
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=3, max_size=3),
)
def test_one_hostile_client_moves_no_value_beyond_the_honest_ones(honest: list[list[float]], evil: list[float]) -> None:
    rows = states(*honest, evil)
    lowest, highest = torch.tensor(honest).amin(0), torch.tensor(honest).amax(0)
    for combine in (TrimmedMean(trim=0.2), Median()):
        after, _ = merged(combine, rows)
        assert bool(((after["w"] >= lowest) & (after["w"] <= highest)).all())


@given(st.permutations(range(6)))
def test_the_order_of_replies_does_not_matter(order: list[int]) -> None:
    drawn = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    rows = [{"w": row} for row in drawn]
    for combine in (TrimmedMean(trim=0.2), Median(), Krum(byzantine=1), Krum(byzantine=1, keep=4)):
        expected, _ = merged(combine, rows)
        found, _ = merged(combine, [rows[place] for place in order])
        assert torch.equal(found["w"], expected["w"])


@pytest.mark.parametrize(
    ("combine", "count", "message"),
    [
        (Krum(byzantine=2), 6, "'krum': byzantine=2 and keep=1 needs 7 replies or more; there are 6"),
        (Krum(byzantine=1, keep=6), 6, "'krum': byzantine=1 and keep=6 needs 7 replies or more"),
        (TrimmedMean(trim=0.4), 4, "'trimmed-mean': trim=0.4, which cuts 2 each way, needs 5 replies"),
        (Median(), 2, "'median': a median needs 3 replies"),
    ],
)
def test_too_few_replies_are_named(combine: Any, count: int, message: str) -> None:
    with pytest.raises(TooFewReplies, match=message):
        merged(combine, states(*[[0.0]] * count))
