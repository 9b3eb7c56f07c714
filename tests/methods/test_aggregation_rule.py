"""How rules are applied: part masks, memory, what they may not touch; and the default merge."""

from typing import Any, Literal, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onebasin.core.layout import Tensors
from onebasin.methods.aggregation.adam import Adam
from onebasin.methods.aggregation.average import Average
from onebasin.methods.aggregation.beta_posterior import BetaPosterior
from onebasin.methods.aggregation.majority_vote import MajorityVote
from onebasin.methods.aggregation.momentum import Momentum
from onebasin.methods.aggregation.nesterov import Nesterov
from onebasin.methods.aggregation.yogi import Yogi
from onebasin.methods.aggregation_rule import (
    RESERVED,
    AggregationRule,
    ClientModel,
    Mean,
    MergeContext,
    Slots,
    TooFewReplies,
    apply_rule,
)

STEPPING: list[AggregationRule] = [
    Average(),
    Momentum(),
    Nesterov(),
    Adam(),
    Yogi(),
    BetaPosterior(),
    MajorityVote(),
]


def named(rule: AggregationRule) -> str:
    return rule.kind


class Greedy(AggregationRule):
    """Remembers under a name that is the server's."""

    kind: Literal["greedy"] = "greedy"

    def memory(self, weights: Tensors) -> Slots:
        return {"control": weights, "own": weights}


class Three(AggregationRule):
    """Needs three."""

    kind: Literal["three"] = "three"

    def minimum_replies(self, replies: int) -> int:
        return 3


def test_a_part_alone_moves_and_the_memory_of_the_rest_stands_still() -> None:
    # momentum, beta 1/2: of [4, 4] only the first is covered; in the next round only the second
    rule, first = Momentum(beta=0.5), {"w": torch.tensor([True, False])}
    slots = apply_rule(rule, {"weights": {"w": torch.zeros(2)}}, Mean({"w": torch.tensor([4.0, 4.0])}), first)
    assert slots["weights"]["w"].tolist() == [4.0, 0.0]
    assert slots["momentum"]["w"].tolist() == [4.0, 0.0]
    slots = apply_rule(rule, slots, Mean({"w": torch.tensor([2.0, 2.0])}), {"w": ~first["w"]})
    assert slots["weights"]["w"].tolist() == [4.0, 2.0]
    assert slots["momentum"]["w"].tolist() == [4.0, 2.0]
    slots = apply_rule(rule, slots, Mean({"w": torch.tensor([0.0, 0.0])}))
    assert slots["weights"]["w"].tolist() == [6.0, 3.0]
    assert slots["momentum"]["w"].tolist() == [2.0, 1.0]


@pytest.mark.parametrize("rule", STEPPING, ids=named)
@given(data=st.data())
def test_each_value_is_stepped_by_itself(rule: AggregationRule, data: st.DataObject) -> None:
    """A round that covers a part leaves what a round that covers all does there, and what was before elsewhere."""
    values = st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4)
    weights, update = (torch.tensor(data.draw(values)) for _ in range(2))
    part = torch.tensor(data.draw(st.lists(st.booleans(), min_size=4, max_size=4)))
    slots = {"weights": {"w": weights}}
    before = rule.memory(slots["weights"]) | slots
    whole = apply_rule(rule, slots, Mean({"w": update}))
    some = apply_rule(rule, slots, Mean({"w": update}), {"w": part})
    assert whole.keys() == some.keys() == before.keys()
    for slot, tensors in some.items():
        assert torch.equal(tensors["w"], torch.where(part, whole[slot]["w"], before[slot]["w"]))


@pytest.mark.parametrize("rule", STEPPING, ids=named)
def test_slots_are_not_changed_and_others_stay(rule: AggregationRule) -> None:
    slots = {"weights": {"w": torch.tensor([0.5])}, "buffers": {"n": torch.tensor(3)}}
    after = apply_rule(rule, slots, Mean({"w": torch.tensor([1.0])}))
    assert slots["weights"]["w"].tolist() == [0.5]
    assert slots.keys() == {"weights", "buffers"}
    assert after["buffers"] is slots["buffers"]


def test_no_rule_remembers_under_a_name_of_the_server_s() -> None:
    assert "control" in RESERVED
    with pytest.raises(ValueError, match="combine: got 'greedy'; its memory uses 'control', a slot of the server's"):
        apply_rule(Greedy(), {"weights": {"w": torch.zeros(1)}}, Mean({"w": torch.zeros(1)}))


def test_the_default_merge_is_the_weighted_average_with_buffers() -> None:
    # (1 * 2 + 3 * 6) / 4 = 5; running mean (1 * 0 + 3 * 4) / 4 = 3; counts are those of the first
    models = [
        ClientModel(c, weight, {"w": torch.tensor([w])}, {"m": torch.tensor([m]), "n": torch.tensor(n)}, False)
        for c, weight, w, m, n in ((0, 1.0, 2.0, 0.0, 7), (1, 3.0, 6.0, 4.0, 8))
    ]
    merged = Average().merge(models, cast(MergeContext, None))
    assert {name: value.tolist() for name, value in merged.state.items()} == {"w": [5.0], "m": [3.0], "n": 7}
    assert not merged.complete


def test_replies_that_are_too_few_are_counted_in_the_error() -> None:
    Three().require_replies(3)
    with pytest.raises(TooFewReplies, match="combine='three' needs 3 replies or more; there are 2"):
        Three().require_replies(2)
    Average().require_replies(1)


@pytest.mark.parametrize(
    ("rule", "settings"),
    [(Momentum, {"beta": 1.0}), (Adam, {"tau": 0.0}), (Average, {"rate": 0.0}), (BetaPosterior, {"margin": 0.5})],
)
def test_settings_out_of_range_are_refused(rule: type[AggregationRule], settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        rule.model_validate(settings)
