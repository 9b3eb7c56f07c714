"""What a round came to: means over those who have a number, and its form in JSON."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from onebasin.federation.messages import Report
from onebasin.federation.round_result import RoundResult
from onebasin.wire.ledger import Decoded


def test_a_mean_is_over_the_clients_that_have_the_number() -> None:
    reports = {0: Report(1, 1, 2.0, accuracy=0.5), 3: Report(100, 1, 4.0), 5: Report(1, 1, accuracy=0.25)}
    result = RoundResult(1, reports)
    assert result.mean(lambda report: report.loss) == 3.0, "plain: examples do not count"
    assert result.mean(lambda report: report.accuracy) == 0.375
    assert result.mean(lambda report: report.test_loss) is None
    assert RoundResult(1).mean(lambda report: report.loss) is None


def test_it_is_written_without_nan_and_with_clients_in_their_order() -> None:
    result = RoundResult(7, {2: Report(5, 3, 0.5), 1: Report(4, 0)}, {9: "gone"}, {2: "clipped"}, Decoded(3, 1))
    facts = result.to_facts()
    numbers = {"examples": 5, "steps": 3, "loss": 0.5, "accuracy": None, "test_loss": None}
    assert facts == {
        "round": 7,
        "reports": [[2, numbers], [1, {**numbers, "examples": 4, "steps": 0, "loss": None}]],
        "failures": [[9, "gone"]],
        "remarks": [[2, "clipped"]],
        "decoded": {"equal": 3, "different": 1},
    }
    found = RoundResult.from_facts(json.loads(json.dumps(facts, allow_nan=False)))
    assert list(found.reports) == [2, 1]
    assert math.isnan(found.reports[1].loss)
    assert (found.round, found.failures, found.remarks) == (7, {9: "gone"}, {2: "clipped"})
    assert found.decoded == Decoded(3, 1)


NUMBER = st.floats(allow_infinity=False, width=32)
REPORT = st.builds(Report, st.integers(0, 2**35), st.integers(0, 2**35), NUMBER, NUMBER, NUMBER)
CLIENT = st.integers(0, 2**31)


@given(
    st.builds(
        RoundResult,
        st.integers(1, 1000),
        st.dictionaries(CLIENT, REPORT, max_size=3),
        st.dictionaries(CLIENT, st.text(), max_size=3),
        st.dictionaries(CLIENT, st.text(), max_size=3),
        st.builds(Decoded, st.integers(0, 9), st.integers(0, 9)),
    )
)
def test_it_goes_through_json_and_back_bit_for_bit(result: RoundResult) -> None:
    found = RoundResult.from_facts(json.loads(json.dumps(result.to_facts(), allow_nan=False)))
    assert repr(found) == repr(result)  # NaN is not equal to itself
