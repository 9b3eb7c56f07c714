"""Users' own data and models, the command, and mistakes in both."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.stopped_runs import Stop, StopWithin
from typer.testing import CliRunner

import onebasin as ob
from onebasin.apps.cli import app
from onebasin.core.clients import Failure
from onebasin.core.seeds import derive
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.load_task import load_task
from onebasin.learning.task import Task
from onebasin.wire.message import decode_message, encode_message

HERE = Path(__file__).parents[1]
MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """Return a task with the factories of a user."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    return {"dataset": "user_code:dataset", "model": {"kind": "user_code:network"}, "clients": 3, "partition": "iid"}


def test_a_users_data_and_model_train_in_every_engine(own: Mapping[str, Any], tmp_path: Path) -> None:
    base = {"method": "fedavg", "task": dict(own), "federation": {"rounds": 4}, "training": {"epochs": 3}}
    single = ob.run(base, out=tmp_path / "single")
    pool = ob.run(base, ["engine.kind=pool", "engine.workers=2"], out=tmp_path / "pool")
    assert single.summary["accuracy"]["final"] >= 0.9
    assert single.model is not None
    assert pool.model is not None
    pairs = zip(single.model.state_dict().values(), pool.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs), "dropout, BatchNorm and convolutions agree to the bit"


def test_an_interrupted_run_of_a_users_model_resumes_to_the_same_bits(own: Mapping[str, Any], tmp_path: Path) -> None:
    base = {"method": "diloco", "task": dict(own), "federation": {"rounds": 4}}
    whole = ob.run(base, out=tmp_path / "whole")
    with pytest.raises(Stop):
        ob.run(base, out=tmp_path / "cut", observers=[StopWithin(3)])
    resumed = ob.run(resume=tmp_path / "cut")
    assert whole.model is not None
    assert resumed.model is not None
    pairs = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_tied_and_frozen_weights_and_buffers_of_every_type(own: Mapping[str, Any], tmp_path: Path) -> None:
    task = {**own, "model": {"kind": "user_code:Tied"}}
    base = {"method": "fedprox", "task": task, "federation": {"rounds": 3}, "training": {"weight_decay": 0.1}}
    single = ob.run(base, out=tmp_path / "single")
    pool = ob.run(base, ["engine.kind=pool", "engine.workers=3"], out=tmp_path / "pool")
    assert single.model is not None
    assert pool.model is not None
    saved = safetensors.torch.load_file(single.directory / "model.safetensors")
    single.model.load_state_dict(saved, strict=True)
    pairs = zip(single.model.state_dict().values(), pool.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs), "no client sees another's transient buffers"
    start = load_task(single.config).build_model(derive(single.config.seed, "init")).state_dict()
    assert torch.equal(saved["frozen.weight"], start["frozen.weight"])
    assert not torch.equal(saved["first.weight"], start["first.weight"])


def test_a_model_that_fails_on_a_client_s_data_is_that_client_s_failure(own: Mapping[str, Any], tmp_path: Path) -> None:
    task = {**own, "model": {"kind": "user_code:moody"}}
    result = ob.run({"method": "fedavg", "task": task, "federation": {"rounds": 2}}, out=tmp_path / "run")
    reasons = [failure["reason"] for record in result.history for failure in record["failures"]]
    assert reasons
    assert set(reasons) == {"TrainingFailed: IndexError: not this one"}


def test_a_factory_that_fails_is_named(own: Mapping[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'user_code:broken' cannot be called: KeyError: 'no such column'"):
        ob.run({"method": "fedavg", "task": {**own, "dataset": "user_code:broken"}}, out=tmp_path / "run")
    task = {**own, "model": {"kind": "user_code:network", "wdth": 3}}
    with pytest.raises(ValueError, match="'user_code:network' cannot be called: TypeError"):
        ob.run({"method": "fedavg", "task": task}, out=tmp_path / "run")


def test_a_model_that_diverged_beyond_the_codec_ends_in_recorded_failures(
    quick_config: MakeConfig, tmp_path: Path
) -> None:
    result = ob.run(quick_config("fedavg", "method.downlink=fp16", "method.combine.rate=1e7"), out=tmp_path / "run")
    assert "the common model cannot be sent: " in result.history[-1]["failures"][0]["reason"]
    assert len(result.history) == 3


def test_a_model_that_does_not_fit_the_classes_is_refused(own: Mapping[str, Any], tmp_path: Path) -> None:
    task = {**own, "model": {"kind": "user_code:misfit"}}
    with pytest.raises(ValueError, match=r"user_code:misfit.*\[1, 3\].*\[1, 2\]"):
        ob.run({"method": "fedavg", "task": task}, out=tmp_path / "run")


def test_more_clients_than_examples_is_refused(own: Mapping[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="101"):
        ob.run({"method": "fedavg", "task": {**own, "clients": 101}}, out=tmp_path / "run")


def test_an_empty_client_is_a_recorded_failure(quick_config: MakeConfig) -> None:
    config = quick_config("fedavg")
    whole = load_task(config)
    parts = [whole.parts[0][:0], *whole.parts[1:]]
    task = Task(whole.dataset, parts, whole.model_name, whole.model_options)
    server, engine = Server(config, task), InProcess(Client(config, task))
    server.close(engine.exchange(server.open(1)))
    assert server.result.failures == {0: "TrainingFailed: this client holds no examples"}
    assert sorted(server.result.reports) == [1, 2, 3]


def test_one_class_per_client_and_a_single_client(quick_config: MakeConfig, tmp_path: Path) -> None:
    skewed = quick_config("fedavg", 'task.partition={kind="classes-per-client", classes=1}', "task.clients=10")
    assert len(ob.run(skewed, out=tmp_path / "skewed").history) == 3
    alone = quick_config("adopt-one", "task.clients=1", "task.partition=iid")
    assert ob.run(alone, out=tmp_path / "alone").summary["failures"] == 0


def test_batchnorm_cannot_train_on_one_example(quick_config: MakeConfig, tmp_path: Path) -> None:
    result = ob.run(quick_config("fedavg", "task.model.norm=batch", "training.batch=1"), out=tmp_path / "run")
    assert "BatchNorm cannot train on batches of 1" in result.history[0]["failures"][0]["reason"]


def test_broken_replies_are_failures_and_change_nothing(quick_config: MakeConfig) -> None:
    config = quick_config("fedavg")
    task = load_task(config)
    engine = InProcess(Client(config, task))

    def tampered(orders: Mapping[int, bytes]) -> Iterator[tuple[int, bytes | Failure]]:
        for client, reply in engine.exchange(orders):
            assert isinstance(reply, bytes)
            message = decode_message(reply)
            if client == 0:
                yield client, reply[:-1]
            elif client == 1:
                yield client, encode_message(message.run, message.round + 1, message.sender, message.sections)
            elif client == 2:
                yield client, encode_message(message.run ^ 1, message.round, message.sender, message.sections)
            else:
                yield client, encode_message(message.run, message.round, message.sender, message.sections[:1])

    server = Server(config, task)
    before = {name: w.clone() for name, w in server.state.slots["weights"].items()}
    server.close(tampered(server.open(1)))
    assert sorted(server.result.failures) == [0, 1, 2, 3]
    assert [next(iter(server.result.failures[c].split())) for c in range(4)] == ["WireError:"] * 4
    assert all(torch.equal(before[name], w) for name, w in server.state.slots["weights"].items())


def test_broken_requests_are_failures_and_change_nothing(quick_config: MakeConfig) -> None:
    config = quick_config("scaffold")
    task = load_task(config)
    server, engine = Server(config, task), InProcess(Client(config, task))
    order = server.open(1)[0]
    for broken in (order[:-5], b"", encode_message(1, 1, 0xFFFFFFFF, decode_message(order).sections)):
        assert isinstance(engine.answer(0, broken), Failure)
        assert not engine.state_of(0).slots
    assert isinstance(engine.answer(0, order), bytes)


def test_the_command(tmp_path: Path) -> None:
    cli = CliRunner()
    out = str(tmp_path / "run")
    done = cli.invoke(app, ["run", "fedavg", "federation.rounds=2", "task.clients=3", "--out", out])
    assert done.exit_code == 0, done.output
    assert "final accuracy" in done.output
    assert cli.invoke(app, ["run", "--resume", out]).exit_code == 0
    assert cli.invoke(app, ["run", "--resume", out, "engine.workers=1"]).exit_code == 0
    odd = cli.invoke(app, ["run", "fedavg", "label=a [/b] [c]", "federation.rounds=1", "--out", out + "-odd"])
    assert odd.exit_code == 0, odd.output
    assert "a [/b] [c]" in odd.output
    assert cli.invoke(app, ["report", out]).exit_code == 0
    assert (tmp_path / "run" / "report.html").exists()
    for what in ("methods", "datasets", "partitions", "models", "codecs"):
        assert cli.invoke(app, ["list", what]).exit_code == 0
    mistakes = [["run"], ["run", "nope"], ["run", "fedavg", "--out", out], ["list", "cats"], ["report", str(HERE)]]
    for wrong in [*mistakes, ["run", "--resume", out, "--out", "x"]]:
        failed = cli.invoke(app, wrong)
        assert failed.exit_code == 1
        assert "error: " in failed.output


def test_compare_skips_finished_runs(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    arms = '[[arm]]\nlabel = "a"\nmethod = "fedavg"\n[[arm]]\nlabel = "b"\nmethod = "fedprox"\n'
    study.write_text(f'title = "small"\n[base.federation]\nrounds = 2\n[base.task]\nclients = 3\n{arms}')
    command = ["compare", str(study), "--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert "2 runs, 0 done, 2 to go" in first.output
    again = CliRunner().invoke(app, command)
    assert "2 runs, 2 done, 0 to go" in again.output
    results = sorted((tmp_path / "results").iterdir())
    assert len(results) == 2
    content = json.loads(results[0].read_text())
    assert content["summary"]["config_hash"] == results[0].stem
    assert content["history"][-1]["round"] == 2
    assert CliRunner().invoke(app, ["report", str(tmp_path / "results")]).exit_code == 0
    results[1].unlink()
    elsewhere = [*command[:3], str(tmp_path / "other"), *command[4:]]
    part = CliRunner().invoke(app, elsewhere)
    assert "2 runs, 1 done, 1 to go" in part.output, "a run whose result is kept is done, though its directory is gone"
    assert (tmp_path / "other" / results[0].name).read_bytes() == results[0].read_bytes()
    assert results[1].exists()
    (tmp_path / "results" / results[0].name).write_text("{")
    damaged = CliRunner().invoke(app, [*command[:3], str(tmp_path / "third"), *command[4:]])
    assert damaged.exit_code == 1
    assert "is not a result file" in damaged.output


def test_compare_prints_how_many_replies_failed(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    common = 'title = "rates"\n[base.federation]\nrounds = 3\n[base.task]\nclients = 3\n'
    study.write_text(
        f'{common}[[arm]]\nlabel = "too high"\nmethod = "fedavg"\ntraining = {{ lr = 1e30 }}\n'
        '[[arm]]\nlabel = "sound"\nmethod = "fedavg"\n'
    )
    told = CliRunner().invoke(app, ["compare", str(study), "--out", str(tmp_path / "runs")])
    assert told.exit_code == 0, told.output
    lines = told.output.splitlines()
    assert "9 failures" in " ".join(line for line in lines if "too high, seed 0" in line)
    assert "failure" not in " ".join(line for line in lines if "sound, seed 0" in line)


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, onebasin, onebasin.apps.cli; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_unknown_names_of_the_package_are_attribute_errors() -> None:
    assert set(ob.__all__) <= {*dir(ob)}
    assert all(getattr(ob, name) for name in ob.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ob.nothing


def test_har_reaches_its_target_on_other_people(tmp_path: Path) -> None:
    if not os.environ.get("ONEBASIN_DATA"):
        pytest.skip("needs $ONEBASIN_DATA")
    config = read_config(
        {
            "method": "fedavg",
            "task": {"dataset": "har", "model": "har-cnn", "partition": "owner", "clients": 0},
            "training": {"lr": 0.1, "epochs": 1},
            "federation": {"rounds": 2},
        }
    )
    result = ob.run(config, out=tmp_path / "run")
    assert result.summary["clients"] == 21
    assert result.summary["accuracy"]["final"] >= 0.6


def test_the_version_is_shown() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output == f"onebasin {ob.__version__}\n"


def test_a_run_that_is_interrupted_says_how_to_resume_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("onebasin.apps.terminal.run", interrupted)
    result = CliRunner().invoke(app, ["run", "fedavg", "--out", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert f"onebasin run --resume {tmp_path / 'run'}" in result.output.replace("\n", "")
