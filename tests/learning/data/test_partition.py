"""Partitions: exact small cases, then properties for every kind, seed and number of clients."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.learning.toy_data import classification, text

from onebasin.learning.data.load import Dataset, load_dataset
from onebasin.learning.data.partition import PARTITIONS, PartitionError, holdings, partition

TEN_OF_THREE = classification([label for label in range(3) for _ in range(10)])


def members(parts: list[torch.Tensor]) -> list[int]:
    return sorted(int(index) for part in parts for index in part)


def test_iid_sizes_differ_by_at_most_one() -> None:
    assert [len(part) for part in partition("iid", classification([0] * 11), 4, seed=0)] == [3, 3, 3, 2]


def test_the_parts_of_a_seed_are_stable() -> None:
    parts = partition("iid", classification([0] * 6), 2, seed=7)
    assert [part.tolist() for part in parts] == [[0, 2, 5], [1, 3, 4]]
    counts = holdings(TEN_OF_THREE, partition("dirichlet", TEN_OF_THREE, 3, seed=7, alpha=0.5))
    assert counts == [[0, 9, 4], [9, 0, 5], [1, 1, 1]]


def test_one_shard_per_class_gives_each_client_its_own_class() -> None:
    counts = holdings(TEN_OF_THREE, partition("shards", TEN_OF_THREE, 3, seed=1, shards=1))
    assert sorted(counts) == [[0, 0, 10], [0, 10, 0], [10, 0, 0]]


def test_shards_have_equal_size_and_at_most_two_classes() -> None:
    counts = np.array(holdings(TEN_OF_THREE, partition("shards", TEN_OF_THREE, 5, seed=0, shards=1)))
    assert counts.sum(axis=1).tolist() == [6] * 5
    assert ((counts > 0).sum(axis=1) <= 2).all()


def test_classes_per_client_by_hand() -> None:
    counts = np.array(holdings(TEN_OF_THREE, partition("classes-per-client", TEN_OF_THREE, 3, seed=0, classes=2)))
    assert ((counts > 0).sum(axis=1) == 2).all()
    assert (counts[counts > 0] == 5).all()  # six places for three classes: each class has two clients
    one_each = holdings(TEN_OF_THREE, partition("classes-per-client", TEN_OF_THREE, 3, seed=0, classes=1))
    assert sorted(one_each) == [[0, 0, 10], [0, 10, 0], [10, 0, 0]]


def test_dirichlet_with_a_huge_alpha_is_even() -> None:
    counts = holdings(TEN_OF_THREE, partition("dirichlet", TEN_OF_THREE, 5, seed=0, alpha=1e9))
    assert all(abs(count - 2) <= 1 for row in counts for count in row)


@pytest.mark.parametrize("kind", ["dirichlet", "quantity"])
def test_a_draw_with_empty_clients_is_repaired(kind: str) -> None:
    data = classification([0, 0, 1, 1, 2, 2])
    parts = partition(kind, data, 6, seed=0, alpha=1e-6)
    assert [len(part) for part in parts] == [1] * 6
    assert members(parts) == list(range(6))


def test_small_alpha_skews_more() -> None:
    data = classification([label for label in range(10) for _ in range(100)])

    def mean_of_largest_share(alpha: float) -> float:
        counts = np.array(holdings(data, partition("dirichlet", data, 10, seed=0, alpha=alpha)))
        return float((counts.max(axis=0) / counts.sum(axis=0)).mean())

    assert mean_of_largest_share(0.1) > 0.5 > 0.2 > mean_of_largest_share(100.0)


def test_owner() -> None:
    data = classification([0, 1, 0, 1, 0, 1], owners=[4, 1, 4, 1, 4, 2])
    assert [part.tolist() for part in partition("owner", data, None, seed=0)] == [[1, 3], [5], [0, 2, 4]]
    assert [part.tolist() for part in partition("owner", data, 0, seed=0, minimum=2)] == [[1, 3], [0, 2, 4]]
    choices = {tuple(len(part) for part in partition("owner", data, 2, seed=seed)) for seed in range(20)}
    assert choices == {(2, 1), (2, 3), (1, 3)}


def test_sequences_by_owner_and_their_counts() -> None:
    data = text(6, owners=[0, 0, 1, 1, 1, 2])
    assert holdings(data, partition("owner", data, None, seed=0)) == [[2], [3], [1]]
    assert holdings(data, partition("iid", data, 4, seed=0)) == [[2], [2], [1], [1]]


@pytest.mark.parametrize("kind", ["dirichlet", "classes-per-client", "shards"])
def test_kinds_by_label_reject_sequences(kind: str) -> None:
    with pytest.raises(
        PartitionError, match="counting has a target at every position; expected iid, owner or quantity"
    ):
        partition(kind, text(6), 2, seed=0)


@pytest.mark.parametrize(
    ("kind", "clients", "options", "message"),
    [
        ("random", 3, {}, "'random' is unknown; expected one of iid, dirichlet"),
        ("iid", 31, {}, "clients: 31; expected at most 30"),
        ("iid", 0, {}, "clients: 0; expected a whole number of at least 1"),
        ("iid", None, {}, "clients: None; expected"),
        ("iid", 2.0, {}, "clients: 2.0; expected"),
        ("iid", 3, {"alpha": 1.0}, "'iid' has no option 'alpha'; it takes none"),
        ("dirichlet", 3, {"beta": 1.0}, "'dirichlet' has no option 'beta'; it takes alpha"),
        ("dirichlet", 3, {"alpha": 0}, "alpha: 0; expected a number above 0"),
        ("dirichlet", 3, {"alpha": float("nan")}, "alpha: nan; expected"),
        ("quantity", 3, {"alpha": -1.0}, "alpha: -1.0; expected"),
        ("quantity", 3, {"alpha": "0.3"}, "alpha: '0.3'; expected"),
        ("classes-per-client", 3, {"classes": 4}, "classes: 4; expected a whole number from 1 to 3"),
        ("classes-per-client", 3, {"classes": 1.5}, "classes: 1.5; expected"),
        (
            "classes-per-client",
            2,
            {"classes": 1},
            "2 with classes=1 each hold 2 of 3 classes; expected at least 3 clients",
        ),
        ("shards", 3, {"shards": 0}, "shards: 0; expected"),
        ("shards", 16, {"shards": 2}, "shards: 2 for each of 16 clients is 32; expected at most one an example, 30"),
        ("owner", None, {}, "toy has no owners"),
    ],
)
def test_bad_input_is_named(kind: str, clients: int | None, options: dict[str, object], message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        partition(kind, TEN_OF_THREE, clients, seed=0, **options)


def test_bad_owner_options_and_seed_are_named() -> None:
    data = classification([0, 0, 0], owners=[0, 0, 1])
    with pytest.raises(PartitionError, match="clients: 3; expected at most 2, the owners in toy with at least 1"):
        partition("owner", data, 3, seed=0)
    with pytest.raises(PartitionError, match="minimum: 3; expected at most 2"):
        partition("owner", data, None, seed=0, minimum=3)
    with pytest.raises(PartitionError, match="minimum: -1; expected"):
        partition("owner", data, None, seed=0, minimum=-1)
    with pytest.raises(PartitionError, match="seed: -1; expected 0 or more"):
        partition("iid", data, 1, seed=-1)


def test_a_class_with_fewer_examples_than_clients_is_rejected() -> None:
    rare = classification([0, 1, 1, 1, 1, 1])
    with pytest.raises(PartitionError, match="too many for the examples of some classes"):
        partition("classes-per-client", rare, 6, seed=0, classes=1)


KINDS: dict[str, st.SearchStrategy[dict[str, float]]] = {
    "iid": st.just({}),
    "dirichlet": st.fixed_dictionaries({"alpha": st.floats(1e-3, 1e3)}),
    "shards": st.fixed_dictionaries({"shards": st.integers(1, 2)}),
    "quantity": st.fixed_dictionaries({"alpha": st.floats(1e-3, 1e3)}),
    "classes-per-client": st.fixed_dictionaries({"classes": st.integers(2, 4)}),
    "exclusive": st.fixed_dictionaries({"classes": st.integers(1, 2)}),
}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(KINDS)), clients=st.integers(2, 12), seed=st.integers(0, 2**63 - 1))
def test_every_example_belongs_to_exactly_one_client(data: st.DataObject, kind: str, clients: int, seed: int) -> None:
    options = data.draw(KINDS[kind])
    labels = data.draw(st.permutations([label for label in range(4) for _ in range(12)]))
    dataset = classification(labels)
    parts = partition(kind, dataset, clients, seed, **options)
    assert len(parts) == clients
    assert members(parts) == list(range(48))
    for part in parts:
        assert part.dtype == torch.int64
        assert len(part) > 0
        assert all(a < b for a, b in pairwise(part.tolist()))
    again = partition(kind, dataset, clients, seed, **options)
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))
    counts = torch.tensor(holdings(dataset, parts))
    assert counts.sum(dim=1).tolist() == [len(part) for part in parts]
    if kind == "classes-per-client":
        assert ((counts > 0).sum(dim=1) == options["classes"]).all()
    if kind == "shards":
        assert int(counts.sum(dim=1).max() - counts.sum(dim=1).min()) <= options["shards"]


def test_different_seeds_give_different_partitions() -> None:
    for kind in sorted(KINDS):
        first, second = (partition(kind, TEN_OF_THREE, 3, seed) for seed in (0, 1))
        assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True)), kind


def test_every_kind_is_described() -> None:
    assert set(PARTITIONS) == {*KINDS, "owner", "subsets", "own"}


def test_subsets_overlap() -> None:
    parts = partition("subsets", TEN_OF_THREE, 4, seed=0, fraction=0.5)
    assert [len(part) for part in parts] == [15] * 4
    assert all(len(set(part.tolist())) == 15 for part in parts)
    assert len(members(parts)) == 60
    with pytest.raises(PartitionError, match=r"fraction: 0; expected a number above 0, at most 1"):
        partition("subsets", TEN_OF_THREE, 4, seed=0, fraction=0)


def test_exclusive_classes_belong_to_the_last_client() -> None:
    counts = holdings(TEN_OF_THREE, partition("exclusive", TEN_OF_THREE, 4, seed=0))
    assert [row[2] for row in counts] == [0, 0, 0, 10]
    assert [row[0] + row[1] for row in counts] == [5, 5, 5, 5]
    with pytest.raises(PartitionError, match="classes: 3; expected 1 to 2"):
        partition("exclusive", TEN_OF_THREE, 4, seed=0, classes=3)


def test_real_data_by_owner(real_data: object) -> None:
    har: Dataset = load_dataset("har")
    assert len(partition("owner", har, None, seed=0)) == 21
    plays = load_dataset("shakespeare")
    assert len(partition("owner", plays, None, seed=0)) == 141
    assert len(partition("owner", plays, 10, seed=0, minimum=100)) == 10
