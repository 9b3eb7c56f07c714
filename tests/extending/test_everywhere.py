"""What docs/extending.md brings runs everywhere alike: in one process, in a pool, on nodes, in a study."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tests.stopped_runs import assert_same_run
from typer.testing import CliRunner

import onebasin as ob
from onebasin.apps.cli import app
from onebasin.apps.flower.node import Node
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.load_task import load_task

MakeConfig = Callable[..., RunConfig]

NATURAL = "error-feedback | mine:Natural"
LION = {"optimizer": "mine:Lion", "lr": 0.001, "keep_optimizer": True}
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "natural compression": {"method": {"name": "fedavg", "uplink": NATURAL}},
    "both ways": {"method": {"name": "fedavg", "start": "shared-seed", "uplink": NATURAL, "downlink": NATURAL}},
    "FedNova": {"method": {"name": "fedavg", "combine": {"kind": "mine:FedNova", "rate": 0.9}}},
    "geometric median": {
        "method": {"name": "fedavg", "combine": "mine:GeometricMedian"},
        "federation": {"attack": "sign-flip"},
    },
    "FedDyn": {"method": "mine:FEDDYN", "training": {"epochs": 1}},
    "MOON": {"method": {"name": "fedavg", "objective": "mine:Contrastive"}, "task": {"model": {"norm": "batch"}}},
    "adapters": {"method": {"name": "fedavg", "parametrization": "mine:LowRankAdapters"}},
    "Zipf": {"method": "fedavg", "task": {"partition": {"kind": "mine:zipf", "exponent": 1.5}}},
    "Lion": {"method": "fedavg", "training": LION},
    "RMSprop": {"method": "fedavg", "training": {"optimizer": "torch.optim:RMSprop", "lr": 0.001}},
    "FedCM": {"method": {"name": "fedavg", "objective": "mine:ClientMomentum"}},
}
"""Each example by itself."""

TOGETHER: Mapping[str, Mapping[str, Any]] = {
    "FedDyn": {
        "method": {"name": "mine:FEDDYN", "parametrization": "mine:LowRankAdapters", "uplink": NATURAL},
        "task": {"partition": "mine:zipf"},
        "training": {**LION, "weight_decay": 0.0},
    },
    "MOON": {
        "method": {"name": "fedavg", "objective": "mine:Contrastive", "combine": "mine:GeometricMedian"},
        "federation": {"attack": "sign-flip"},
        "training": {"optimizer": "torch.optim:RMSprop", "lr": 0.001, "optimizer_options": {"centered": True}},
    },
    "FedCM": {"method": {"name": "fedavg", "objective": "mine:ClientMomentum", "combine": "mine:FedNova"}},
}
"""All examples in a few runs, for what takes seconds to start."""


def settings(example: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration of two short rounds of three clients."""
    return {
        **example,
        "task": {"clients": 3, **example.get("task", {})},
        "federation": {"rounds": 2, **example.get("federation", {})},
    }


@pytest.mark.parametrize("name", TOGETHER)
def test_a_pool_gives_the_bytes_and_weights_of_one_process(name: str, mine: Any, tmp_path: Path) -> None:
    for engine in ("single", "pool"):
        run = ob.run(settings(TOGETHER[name]), [f"engine.kind={engine}", "engine.workers=2"], out=tmp_path / engine)
        assert run.summary["failures"] == 0
        assert run.summary["decoded"]["different"] == 0
    assert_same_run(tmp_path / "single", tmp_path / "pool")


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_node_gives_the_replies_of_one_process(name: str, mine: Any, tmp_path: Path) -> None:
    config = ob.read_config(settings(EXAMPLES[name]))
    task = load_task(config)
    server, engine = Server(config, task), InProcess(Client(config, task))
    marks = dict.fromkeys(range(3), "")
    for round in (1, 2):
        orders = server.open(round)
        replies = dict(engine.exchange(orders))
        for client, order in orders.items():
            answer, marks[client] = Node(client, tmp_path / str(client)).answer(config, order, marks[client])
            assert answer == replies[client]
            assert isinstance(answer, bytes)
        assert not server.close(iter(replies.items()))
        assert not server.result.failures
    engine.close()


def test_a_study_takes_each_example_for_an_arm(mine: Any, tmp_path: Path) -> None:
    arms = [{"label": label, **settings(example)} for label, example in EXAMPLES.items()]
    study = tmp_path / "study.toml"
    study.write_text(tomli_w.dumps({"title": "what is mine", "arm": arms}))
    runs = tmp_path / "runs"
    done = CliRunner().invoke(app, ["compare", str(study), "--out", str(runs), "--jobs", "1"])
    assert done.exit_code == 0, done.output
    assert f"{len(arms)} runs, 0 done, {len(arms)} to go" in done.output
    for arm in arms:
        single = ob.run(arm, out=tmp_path / "single" / arm["label"])
        assert single.summary["failures"] == 0
        assert_same_run(single.directory, next(runs.glob(f"*-{single.config.identity()[:8]}")))
