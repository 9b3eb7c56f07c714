"""Who takes part in a round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebasin.federation.cohort import cohort
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import Federation, RunConfig

CONFIG = read_config("fedavg")


def configure(seed: int = 0, **federation: int) -> RunConfig:
    return CONFIG.model_copy(update={"seed": seed, "federation": Federation(**federation)})


def test_all_take_part_where_nothing_else_is_said() -> None:
    assert cohort(configure(), 4, 1) == [0, 1, 2, 3]
    assert cohort(configure(cohort=4), 4, 1) == [0, 1, 2, 3]
    assert cohort(configure(cohort=9), 4, 1) == [0, 1, 2, 3]


@pytest.mark.parametrize(("round", "expected"), [(1, [0, 1]), (2, [0, 1]), (3, [0, 1, 2, 3]), (4, [0, 1, 2, 3])])
def test_who_is_late_is_there_from_its_round_on(round: int, expected: list[int]) -> None:
    assert cohort(configure(late=2, join_round=3), 4, round) == expected


def test_clients_that_keep_their_models_all_train_in_every_round() -> None:
    alone = read_config("local-only", ["federation.cohort=1"])
    assert cohort(alone, 3, 1) == [0, 1, 2]


@given(
    st.integers(1, 12), st.integers(0, 12), st.integers(0, 11), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99)
)
def test_a_cohort_is_a_draw_by_seed_and_round_from_those_that_are_there(
    clients: int, size: int, late: int, join_round: int, round: int, seed: int
) -> None:
    late = min(late, clients - 1)
    config = configure(seed, cohort=size, late=late, join_round=join_round)
    chosen = cohort(config, clients, round)
    there = clients if round >= join_round else clients - late
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(there))
    assert len(chosen) == (min(size, there) if size else there)
    assert cohort(config, clients, round) == chosen


def test_cohorts_differ_from_round_to_round_and_from_seed_to_seed() -> None:
    rounds = {tuple(cohort(configure(cohort=3), 10, round)) for round in range(1, 9)}
    seeds = {tuple(cohort(configure(seed, cohort=3), 10, 1)) for seed in range(8)}
    assert len(rounds) > 4 < len(seeds)


def test_everybody_s_turn_comes() -> None:
    config = configure(cohort=2)
    assert {client for round in range(1, 60) for client in cohort(config, 6, round)} == set(range(6))
