from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, model_validator

from onebasin.core.settings import ConfigError, Settings
from onebasin.core.tables import apply_overrides, merge, read_toml, validate


class Training(Settings):
    """Settings within those of `Run`."""

    lr: Annotated[float, Field(gt=0)] = 0.1
    milestones: tuple[int, ...] = ()


class Run(Settings):
    """A few settings with a rule that concerns two of them."""

    rounds: int
    seed: int = 0
    training: Training = Training()

    @model_validator(mode="after")
    def _parts_fit(self) -> "Run":
        if self.rounds > 100 and self.seed:
            raise ValueError("Rounds are too many\nSeeds are too few")
        return self


# Merging


def test_changes_are_taken_and_other_defaults_remain() -> None:
    defaults = {"rounds": 10, "training": {"lr": 0.1, "epochs": 2, "schedule": {"kind": "cosine", "period": 5}}}
    changes = {"seed": 1, "training": {"lr": 0.5, "schedule": {"period": 7}}}
    assert merge(defaults, changes) == {
        "rounds": 10,
        "seed": 1,
        "training": {"lr": 0.5, "epochs": 2, "schedule": {"kind": "cosine", "period": 7}},
    }
    assert defaults["training"] == {"lr": 0.1, "epochs": 2, "schedule": {"kind": "cosine", "period": 5}}


@pytest.mark.parametrize(
    ("default", "change", "merged"),
    [
        ({"kind": "momentum", "beta": 0.5}, {"kind": "adam"}, {"kind": "adam"}),
        ({"kind": "momentum", "beta": 0.5}, "adam", {"kind": "adam"}),
        ({"kind": "momentum", "beta": 0.5}, "momentum", {"kind": "momentum", "beta": 0.5}),
        ({"kind": "momentum", "beta": 0.5}, {"rate": 2.0}, {"kind": "momentum", "beta": 0.5, "rate": 2.0}),
        ("momentum", {"beta": 0.5}, {"kind": "momentum", "beta": 0.5}),
        ("momentum", {"kind": "adam", "beta": 0.5}, {"kind": "adam", "beta": 0.5}),
        ("momentum", "adam", "adam"),
        ({"kind": "momentum"}, 3, 3),
        (3, {"kind": "momentum"}, {"kind": "momentum"}),
    ],
)
def test_a_table_of_another_kind_replaces_the_default(default: Any, change: Any, merged: Any) -> None:
    assert merge({"combine": default}, {"combine": change}) == {"combine": merged}


def test_a_string_in_the_place_of_a_method_is_its_name() -> None:
    assert merge({"method": "fedavg"}, {"method": {"uplink": "fp16"}}) == {
        "method": {"name": "fedavg", "uplink": "fp16"}
    }


# Overrides


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("rounds=5", {"rounds": 5, "training": {"lr": 0.1}, "combine": "average"}),
        ("label=a b=c", {"rounds": 1, "training": {"lr": 0.1}, "combine": "average", "label": "a b=c"}),
        ("training.lr = 0.5", {"rounds": 1, "training": {"lr": 0.5}, "combine": "average"}),
        ("training.a.b=[1, 2]", {"rounds": 1, "training": {"lr": 0.1, "a": {"b": [1, 2]}}, "combine": "average"}),
        ("combine.rate=2.0", {"rounds": 1, "training": {"lr": 0.1}, "combine": {"kind": "average", "rate": 2.0}}),
        ("method=fedprox", {"rounds": 1, "training": {"lr": 0.1}, "combine": "average", "method": "fedprox"}),
        ("label=", {"rounds": 1, "training": {"lr": 0.1}, "combine": "average", "label": ""}),
    ],
)
def test_an_override_sets_one_value_in_a_copy(override: str, changed: dict[str, Any]) -> None:
    raw = {"rounds": 1, "training": {"lr": 0.1}, "combine": "average"}
    assert apply_overrides(raw, [override]) == changed
    assert raw == {"rounds": 1, "training": {"lr": 0.1}, "combine": "average"}


def test_overrides_are_applied_in_order() -> None:
    assert apply_overrides({}, ["method=fedavg", "method.uplink=fp16", "method.uplink='int8'"]) == {
        "method": {"name": "fedavg", "uplink": "int8"}
    }


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("rounds", "'rounds': expected KEY=VALUE, such as training.lr=0.1"),
        ("=5", "'=5': expected KEY=VALUE"),
        ("training..lr=5", "'training..lr=5': expected KEY=VALUE"),
        ("rounds.more=5", "'rounds.more=5': rounds is 1, not a table"),
    ],
)
def test_an_override_of_another_form_is_refused(override: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        apply_overrides({"rounds": 1}, [override])


# Validation


def test_valid_tables_are_returned_as_settings() -> None:
    assert validate(Run, {"rounds": 3, "training": {"lr": 1.0}}) == Run(rounds=3, training=Training(lr=1.0))


@pytest.mark.parametrize(
    ("raw", "problems"),
    [
        ({}, ["rounds: is missing"]),
        ({"rounds": 3, "speed": 1}, ["speed: no such key"]),
        ({"rounds": "3"}, ["rounds: got '3'; input should be a valid integer"]),
        ({"rounds": 3, "training": {"lr": -1.0}}, ["training.lr: got -1.0; input should be greater than 0"]),
        (
            {"rounds": 3, "training": {"milestones": (1, None)}},
            ["training.milestones.1: got None; input should be a valid integer"],
        ),
        ({"rounds": 101, "seed": 1}, ["Run: rounds are too many", "Run: seeds are too few"]),
        (
            {"seed": 0.5, "speed": 1},
            ["rounds: is missing", "seed: got 0.5; input should be a valid integer", "speed: no such key"],
        ),
    ],
)
def test_errors_have_a_line_for_each_wrong_field(raw: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        validate(Run, raw)
    assert str(raised.value).split("\n") == problems


# Files


def test_a_toml_file_is_read_as_tables(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('label = "é"\n[training]\nlr = 0.5\n', encoding="utf-8")
    assert read_toml(path) == {"label": "é", "training": {"lr": 0.5}}


def test_missing_files_and_other_formats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    with pytest.raises(ConfigError, match=r"run\.toml: no such file"):
        read_toml(path)
    for data in (b"label = ", b"\xff\xfe"):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=r"run\.toml: not a TOML file: "):
            read_toml(path)


def test_a_folder_in_the_place_of_a_toml_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        read_toml(tmp_path)


def test_an_override_sets_nothing_beside_its_own_key() -> None:
    assert apply_overrides({}, ["a=1\nb=2"]) == {"a": "1\nb=2"}
