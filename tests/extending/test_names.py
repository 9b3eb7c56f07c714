"""Names that an installed package announces by entry points."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.extending.conftest import blocks, forget
from typer.testing import CliRunner

from onebasin.apps.cli import app
from onebasin.apps.list_names import names
from onebasin.codecs.chain import STAGES
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.load_task import load_task

KINDS = {
    "codecs": ("natural", "Signs and powers of two, stochastically rounded. Horvath et al. 2019"),
    "combine": ("fednova", "w + rate * mean steps * mean of (update / steps)"),
    "objectives": ("moon", "loss + mu * contrast of features with two models"),
    "parametrizations": ("lora", "W + B A in each linear layer"),
    "partitions": ("zipf", "mine:zipf"),
    "optimizers": ("lion", "mine:Lion"),
    "engines": ("recording", "As `single`; keeps the messages of the last round in a folder."),
    "methods": ("feddyn", "Dynamic regularisation at the clients and the server"),
}


@pytest.fixture
def installed(outside: Path, mine: Any) -> Iterator[None]:
    """Install the page's entry points, and two that no package should have."""
    announced = next(table for block in blocks("toml") if "project" in (table := tomllib.loads(block)))
    points = announced["project"]["entry-points"]["onebasin"]
    metadata = outside / "mine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    points |= {"stage.broken": "mine:Gone", "combine.average": "mine:FedNova"}
    lines = [f"{name} = {value}" for name, value in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[onebasin]", *lines, ""]))
    forget()
    yield
    for path in metadata.iterdir():
        path.unlink()
    metadata.rmdir()
    forget()


@pytest.mark.parametrize("kind", KINDS)
def test_an_announced_name_is_listed_with_its_line(kind: str, installed: None) -> None:
    name, line = KINDS[kind]
    assert names(kind)[name].startswith(line)
    listed = CliRunner().invoke(app, ["list", kind])
    assert listed.exit_code == 0
    assert name in listed.output
    assert "package.module:Name" in listed.output


def test_a_broken_package_is_listed_with_the_reason_and_breaks_nothing(installed: None) -> None:
    assert names("codecs")["broken"] == "cannot be used: 'mine:Gone': 'mine' has no 'Gone'"
    with pytest.raises(ValueError, match="the last is to be one of eden"):
        read_config("fedavg", ["method.uplink=top-k 0.1"])


def test_an_announced_name_is_used_like_any_other(mine: Any, installed: None) -> None:
    config = read_config(
        "feddyn",
        [
            "method.uplink=error-feedback | natural",
            "method.parametrization=lora",
            "task.partition=zipf",
            "training.optimizer=lion",
            "training.weight_decay=0.0",
            "engine=recording",
        ],
    )
    assert isinstance(config.method.objective, mine.Dynamic)
    assert isinstance(config.engine, mine.Recording)
    assert config.engine.kind == "recording"
    assert config.method.uplink == "error-feedback decay=1.0 | mine:Natural"
    assert len(load_task(config).parts[0]) > len(load_task(config).parts[1])
    assert RunConfig.model_validate(config.model_dump()) == config
    assert set(config.outside_code()) == {
        "mine:Dynamic",
        "mine:DynamicServer",
        "mine:LowRankAdapters",
        "mine:Lion",
        "mine:Natural",
        "mine:zipf",
    }


def test_a_built_in_name_cannot_be_taken(mine: Any, installed: None) -> None:
    assert not isinstance(read_config("fedavg", ["method.combine=average"]).method.combine, mine.FedNova)


def test_without_the_package_its_names_are_unknown(mine: Any) -> None:
    assert "natural" not in STAGES
    with pytest.raises(ValueError, match=r"method\.uplink: got 'natural'; unknown codec"):
        read_config("fedavg", ["method.uplink=natural"])
