"""A run's identity holds the source of what comes from outside: a changed file is another run."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.extending.conftest import forget
from tests.stopped_runs import Stop, StopAfter, assert_same_run

import onebasin as ob
from onebasin.apps.flower.node import Node
from onebasin.core.clients import Failure
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.load_task import load_task
from onebasin.learning.reuse import FOLDER_VARIABLE

MakeConfig = Callable[..., RunConfig]

RULES = """
from typing import ClassVar
from onebasin.learning.objective import Objective
from onebasin.methods.aggregation_rule import AggregationRule, added


class Half(AggregationRule):
    def step(self, slots, mean):
        return added(slots, mean.update, 0.5)


class Shrinking(Objective):
    exchange: ClassVar[str] = "changing_hooks:Silent"

    def loss(self, phase, batch):
        return 1.0 * batch.loss
"""
HOOKS = """
from onebasin.federation.hooks.hook import Hook


class Silent(Hook):
    pass
"""
HALF = "method.combine=changing:Half"
SHRINKING = "method.objective=changing:Shrinking"


@pytest.fixture
def write(outside: Path) -> Callable[[str, str], None]:
    """Write a module anew, as if by an editor between two processes."""

    def written(module: str, source: str) -> None:
        path = outside / f"{module}.py"
        before = path.stat().st_mtime if path.exists() else 0.0
        path.write_text(source)
        os.utime(path, (before + 10, before + 10))  # so that no older bytecode is taken for it
        forget("changing", "changing_hooks")

    written("changing", RULES)
    written("changing_hooks", HOOKS)
    return written


def test_a_changed_source_is_another_run_and_an_unchanged_one_the_same(write: Callable[[str, str], None]) -> None:
    first = read_config("fedavg", [HALF, SHRINKING]).identity()
    write("changing", RULES)
    assert read_config("fedavg", [HALF, SHRINKING]).identity() == first
    write("changing", RULES.replace("0.5", "0.25"))
    changed = read_config("fedavg", [HALF, SHRINKING]).identity()
    write("changing", RULES)
    write("changing_hooks", HOOKS + "\n# a hook stands in a file of its own\n")
    hooked = read_config("fedavg", [HALF, SHRINKING]).identity()
    assert len({first, changed, hooked, read_config("fedavg").identity()}) == 4
    assert read_config("fedavg", [HALF]).outside_code().keys() == {"changing:Half"}


def test_a_change_while_the_code_is_in_use_is_one_for_the_next_process(
    write: Callable[[str, str], None], outside: Path
) -> None:
    config = read_config("fedavg", [HALF])
    first = config.identity()
    (outside / "changing.py").write_text(RULES + "\n")
    assert config.identity() == first


def test_a_stopped_run_goes_on_with_the_same_source_alone(
    write: Callable[[str, str], None], quick_config: MakeConfig, tmp_path: Path
) -> None:
    ob.run(quick_config("fedavg", HALF), out=tmp_path / "whole")
    with pytest.raises(Stop):
        ob.run(quick_config("fedavg", HALF), out=tmp_path / "stopped", observers=[StopAfter(1)])
    write("changing", RULES.replace("0.5", "0.25"))
    with pytest.raises(
        ValueError, match=r"manifest\.json: the checkpoint is of run .*code from outside .* has changed"
    ):
        ob.run(resume=tmp_path / "stopped")
    write("changing", RULES)
    ob.run(resume=tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
    write("changing", RULES.replace("0.5", "0.25"))
    with pytest.raises(ValueError, match="the checkpoint is of run"):
        ob.run(resume=tmp_path / "stopped")


def test_a_device_with_another_version_of_the_source_refuses_the_server_s_requests(
    write: Callable[[str, str], None], quick_config: MakeConfig, tmp_path: Path
) -> None:
    config = quick_config("fedavg", HALF)
    order = Server(config, load_task(config)).open(1)[0]
    assert isinstance(Node(0, tmp_path).answer(config, order, "")[0], bytes)
    write("changing", RULES.replace("0.5", "0.25"))
    reply, _ = Node(0, tmp_path).answer(quick_config("fedavg", HALF), order, "")
    assert isinstance(reply, Failure)
    assert reply.reason.startswith("WireError: the message is of run ")


def test_phases_are_not_reused_after_their_objective_has_changed(
    write: Callable[[str, str], None], quick_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "phases"))

    def trained(name: str) -> torch.Tensor:
        run = ob.run(quick_config("fedavg", SHRINKING, "federation.rounds=1"), out=tmp_path / name)
        assert run.model is not None
        return torch.cat([parameter.flatten() for parameter in run.model.parameters()])

    first = trained("first")
    assert torch.equal(trained("again"), first)
    kept = len(list((tmp_path / "phases").iterdir()))
    write("changing", RULES.replace("1.0", "0.1"))
    assert not torch.equal(trained("changed"), first)
    assert len(list((tmp_path / "phases").iterdir())) == 2 * kept
