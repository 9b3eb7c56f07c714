import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebasin.report import units


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (246_824, "247 kB"),
        (4_936_480, "4.94 MB"),
        (999_600, "1.00 MB"),
        (98_729_600, "98.7 MB"),
        (2.5e15, "2.50 PB"),
        (None, "–"),
    ],
)
def test_bytes_are_decimal_with_three_digits(count, text):
    assert units.byte_text(count) == text


@given(st.integers(min_value=0, max_value=10**15))
def test_bytes_are_written_within_half_a_percent(count):
    number, unit = units.byte_text(count).split()
    power = {"B": 0, "kB": 1, "MB": 2, "GB": 3, "TB": 4, "PB": 5}[unit]
    assert float(number) * 1000**power == pytest.approx(count, rel=0.0051)
    assert len(number.replace(".", "")) <= 3


def test_percentages_ratios_and_durations():
    assert units.percent_text(0.8615, 0.0032) == "86.2 ± 0.3"
    assert units.percent_text(0.5) == "50.0"
    assert units.target_text("0.84") == "84%"
    assert units.target_text("0.995") == "99.5%"
    assert [units.times_text(x) for x in (0.5, 3.94, 412.3)] == ["0.50×", "3.9×", "412×"]
    assert [units.ratio_words(x) for x in (4.0, 0.5, 1.02)] == ["4.0× fewer", "2.0× more", "as many"]
    assert [units.seconds_text(x) for x in (0.84, 42, 200, 7500)] == ["0.8 s", "42 s", "3 min 20 s", "2 h 5 min"]
    assert units.plural(1, "seed") == "1 seed"


def test_consecutive_numbers_are_a_range_and_further_numbers_are_counted():
    assert units.ranges_text([9, 1, 2, 3, 4, 7, 7]) == "1–4, 7, 9"
    assert units.ranges_text([1, 2]) == "1, 2"
    assert units.ranges_text([1, 3, 5, 7], max_ranges=2) == "1, 3 and 2 more"
