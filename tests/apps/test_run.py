"""Whole runs on the embedded data: independent counts of bytes, resuming, failures, other engines."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.stopped_runs import Stop, StopWithin, assert_same_model, assert_same_run

import onebasin as ob
from onebasin.apps import run as launch
from onebasin.core.clients import Failure, Reply
from onebasin.federation.engine import Engine
from onebasin.federation.run_config import RunConfig
from onebasin.learning.load_task import load_task
from onebasin.learning.metrics import evaluate
from onebasin.methods.page import PAGES
from onebasin.results.run_directory import RunDirectoryError

MakeConfig = Callable[..., RunConfig]


class Spy:
    """Counts every byte that passes an engine, by direction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.down: list[int] = []
        self.up: list[int] = []

    def exchange(self, orders: Mapping[int, bytes]) -> Iterator[Reply]:
        self.down += [len(order) for order in orders.values()]
        for client, reply in self._engine.exchange(orders):
            if not isinstance(reply, Failure):
                self.up.append(len(reply))
            yield client, reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@pytest.fixture
def spies(monkeypatch: pytest.MonkeyPatch) -> list[Spy]:
    """Wrap the engine of every later run in a `Spy`."""
    made: list[Spy] = []
    open_engine = launch.open_engine

    def spied(*arguments: Any) -> Spy:
        made.append(Spy(open_engine(*arguments)))
        return made[-1]

    monkeypatch.setattr(launch, "open_engine", spied)
    return made


def from_own(*choices: str) -> tuple[str, ...]:
    """Return settings of a method in which every client starts from its own initialisation."""
    return ("method.start=local", *(f"method.{choice}" for choice in choices))


VARIANTS = [
    *[(method, ()) for method in PAGES.names if method != "piggyback"],  # which needs weights: test_piggyback.py
    ("fedavg", ("method.start=shared-seed",)),
    ("fedavg", ("method.start=local", "method.uplink=fp16", "method.downlink=int8")),
    ("fedavg", ("federation.cohort=2", "federation.dropout=0.3")),
    ("scaffold", ("method.uplink=int8", "federation.cohort=3")),
    ("fedavg", ("task.model.norm=batch",)),
    ("fedavg", from_own("frame=weights")),
    ("fedavg", (*from_own("frame=weights", "repair=norm-reset", "probes=noise"), "task.model.norm=batch")),
    ("fedavg", from_own("frame=activations", "repair=repair", "probes=noise", "repair_targets=clients")),
    ("fedavg", from_own("frame=signatures", "combine=least-squares", "combine.distil=5", "probes.count=50")),
    (
        "fedavg",
        (*from_own("frame=signatures"), "federation.late=1", "federation.join_round=2", "federation.dropout=0.2"),
    ),
    ("fedavg", (*from_own("frame=weights"), "training.keep_optimizer=true", "training.momentum=0.9")),
    ("fedadam", ("method.frame=weights", "method.alignment.every_round=true")),
    (
        "fedavg",
        ("method.uplink=error-feedback | top-k 0.05 | sign", "method.downlink=error-feedback | top-k 0.05 | sign"),
    ),
    (
        "fedavg",
        (
            *from_own("frame=weights", "uplink=momentum-correction | error-feedback | fragment 2 | hadamard | eden"),
            *("method.downlink=small 64 | random-k 0.2 shared=true | uniform 4", "federation.dropout=0.2"),
            *("federation.late=1", "federation.join_round=2", "task.model.norm=batch"),
        ),
    ),
    ("fedavg", ("method.start=shared-seed", "method.downlink=top-k 0.1 | fp16", "federation.cohort=2")),
    ("fedavg", ("method.combine=least-squares", "method.probes=public", "method.probes.count=20", "task.public=20")),
    ("fedmrn", ("method.downlink=relay", "federation.cohort=2")),
    ("fedmrn", from_own("frame=adopt-one", "models=seeded", "downlink=error-feedback | masked-noise 0.1")),
]


@pytest.mark.parametrize(("method", "overrides"), VARIANTS)
def test_the_ledger_equals_an_independent_count(
    method: str, overrides: tuple[str, ...], quick_config: MakeConfig, spies: list[Spy], tmp_path: Path
) -> None:
    result = ob.run(quick_config(method, *overrides), out=tmp_path / "run")
    counted = result.summary["bytes"]
    assert counted["total"] == sum(spies[0].down) + sum(spies[0].up)
    assert counted["total"] == counted["up"] + counted["down"] + counted["init"] + counted["align"]
    assert counted["total_multicast"] <= counted["total"]
    rows = list(csv.DictReader((tmp_path / "run" / "ledger.csv").open()))
    assert sum(int(row["bytes"]) for row in rows if row["direction"] == "up") == sum(spies[0].up)
    assert sum(int(row["bytes"]) for row in rows if row["direction"] == "down") == sum(spies[0].down)
    assert sum(int(row["bytes"]) for row in rows if row["kind"] == "control") == counted["control"]


def test_fedavg_costs_its_closed_form(quick_config: MakeConfig, spies: list[Spy], tmp_path: Path) -> None:
    """The MLP has 64*64+64 + 64*10+10 = 4,810 parameters of 4 bytes each."""
    result = ob.run(quick_config("fedavg"), out=tmp_path / "run")
    messages = 2 * 3 * 4
    payload = messages * 4 * 4810
    assert result.summary["parameters"] == 4810
    envelope = 2 + 1 + 4 + 1 + 1 + 4  # magic, version, run, round, sender, checksum
    order_header = envelope + (2 + 1) + (1 + 3 + 4)  # what to do; the model's section, length and head
    reply_header = envelope + (2 + 2 + 1 + 4) + (1 + 3 + 4)  # examples, steps and loss; the update's
    assert (order_header, reply_header) == (24, 30)
    assert result.summary["bytes"]["total"] == payload + messages // 2 * (order_header + reply_header)
    assert set(spies[0].down) == {4 * 4810 + order_header}
    assert set(spies[0].up) == {4 * 4810 + reply_header}


def test_a_shared_seed_gives_the_same_model_for_one_download_less(quick_config: MakeConfig, tmp_path: Path) -> None:
    sent = ob.run(quick_config("fedavg"), out=tmp_path / "sent")
    seeded = ob.run(quick_config("fedavg", "method.start=shared-seed"), out=tmp_path / "seeded")
    assert_same_model(sent.directory, seeded.directory)
    saved = sent.summary["bytes"]["total"] - seeded.summary["bytes"]["total"]
    assert saved == 4 * ((1 + 3 + 4 + 4 * 4810) - (1 + 1 + 8))
    assert seeded.summary["bytes"]["init"] == 4 * (1 + 1 + 8)


def test_the_pool_and_the_single_process_give_the_same_bits(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("scaffold", "method.uplink=int8", "federation.dropout=0.2")
    single = ob.run(config, out=tmp_path / "single")
    pool = ob.run(config, ["engine.kind=pool", "engine.workers=2"], out=tmp_path / "pool")
    assert_same_run(single.directory, pool.directory)


@pytest.mark.parametrize(
    ("method", "engine"),
    [
        *[(method, "single") for method in ("scaffold", "fedadam", "adopt-one", "local-only", "centralised")],
        ("diloco", "pool"),
        ("stc", "single"),
        ("streaming-diloco", "pool"),
        ("dgc", "single"),
        ("fedmrn", "single"),
        ("fedpfn", "pool"),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    method: str, engine: str, quick_config: MakeConfig, tmp_path: Path
) -> None:
    config = quick_config(method, f"engine.kind={engine}", "engine.workers=2", "federation.rounds=4")
    whole = ob.run(config, out=tmp_path / "whole")
    if method != "centralised":
        with pytest.raises(Stop):
            ob.run(config, out=tmp_path / "cut", observers=[StopWithin(3)])
    else:
        with pytest.raises(ZeroDivisionError):
            ob.run(config, out=tmp_path / "cut", observers=[RaiseAt(2)])
    ob.run(config, resume=tmp_path / "cut")
    assert_same_run(whole.directory, tmp_path / "cut")


class RaiseAt:
    def __init__(self, round: int) -> None:
        self._round = round

    def on_reply(self, round: int, answered: int, asked: int) -> None:
        pass

    def on_round(self, record: dict[str, Any]) -> None:
        _ = 1 / (self._round - record["round"])


@pytest.mark.parametrize("engine", ["single", "pool"])
def test_a_killed_run_resumes_to_the_same_result(engine: str, quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("scaffold", f"engine.kind={engine}", "engine.workers=2", "federation.rounds=60")
    whole = ob.run(config, out=tmp_path / "whole")
    killed = tmp_path / "killed"
    (tmp_path / "config.toml").write_text(config.to_toml())
    command = [sys.executable, "-m", "onebasin", "run", str(tmp_path / "config.toml"), "--out", str(killed)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    history = killed / "history.jsonl"
    while process.poll() is None and not (history.exists() and history.stat().st_size > 500):
        time.sleep(0.01)
    time.sleep(random.random() * 0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    ob.run(resume=killed)
    assert_same_run(whole.directory, killed)


def test_half_written_lines_are_removed(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("fedavg")
    whole = ob.run(config, out=tmp_path / "whole")
    with pytest.raises(Stop):
        ob.run(config, out=tmp_path / "cut", observers=[StopWithin(2)])
    with (tmp_path / "cut" / "history.jsonl").open("a") as file:
        file.write('{"round": 2, "accur')
    with (tmp_path / "cut" / "ledger.csv").open("a") as file:
        file.write("2,0,down,init,19240\n2,1,do")
    (tmp_path / "cut" / ".history.jsonl.123.partial").write_text("half")
    ob.run(config, resume=tmp_path / "cut")
    assert_same_run(whole.directory, tmp_path / "cut")
    assert not list((tmp_path / "cut").glob(".*.partial"))


def test_a_directory_is_not_overwritten_or_resumed_with_another_run(quick_config: MakeConfig, tmp_path: Path) -> None:
    ob.run(quick_config("fedavg"), out=tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        ob.run(quick_config("fedavg"), out=tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="holds another run"):
        ob.run(quick_config("fedprox"), resume=tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="holds no run"):
        ob.run(resume=tmp_path / "nothing")


def test_a_directory_in_use_is_not_touched(quick_config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "run"

    class Intruder:
        def on_reply(self, round: int, answered: int, asked: int) -> None: ...

        def on_round(self, record: dict[str, Any]) -> None:
            with pytest.raises(RunDirectoryError, match="is in use: another process is running it"):
                ob.run(resume=path)

    assert len(ob.run(quick_config("fedavg"), out=path, observers=[Intruder()]).history) == 3


def test_a_run_that_cannot_start_leaves_no_directory(quick_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="clients"):
        ob.run(quick_config("fedavg", "task.clients=100000"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_named(quick_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        ob.run(quick_config("scaffold"), out=tmp_path / "run", observers=[StopWithin(2)])
    damaged = tmp_path / "run" / "checkpoint" / "server-000001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"server-000001\.safetensors: the checkpoint is damaged"):
        ob.run(resume=tmp_path / "run")


def test_a_run_of_a_version_with_other_messages_is_not_resumed(quick_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        ob.run(quick_config("fedavg"), out=tmp_path / "run", observers=[StopWithin(2)])
    manifest = tmp_path / "run" / "checkpoint" / "manifest.json"
    facts = json.loads(manifest.read_bytes())
    del facts["wire"], facts["ledger"]["decoded"]
    manifest.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"manifest\.json: the run is of another version of onebasin, whose messages"):
        ob.run(resume=tmp_path / "run")


def test_missing_or_foreign_files_are_named(quick_config: MakeConfig, tmp_path: Path) -> None:
    path = ob.run(quick_config("scaffold"), out=tmp_path / "run").directory
    text = (path / "config.toml").read_text()
    (path / "config.toml").write_text(text.replace("lr = 0.05", "lr = 0.06"))
    with pytest.raises(ValueError, match="the checkpoint is of run"):
        ob.run(resume=path)
    (path / "config.toml").write_text(text)
    client = next((path / "checkpoint").glob("client-000001-*"))
    whole = client.read_bytes()
    client.write_bytes(whole[:50])
    with pytest.raises(ValueError, match=rf"{client.name}: the checkpoint is damaged"):
        ob.run(resume=path)
    client.write_bytes(whole)
    ledger = (path / "ledger.csv").read_bytes()
    (path / "ledger.csv").unlink()
    with pytest.raises(ValueError, match=r"ledger\.csv: the checkpoint is damaged: its lines up to round 3"):
        ob.run(resume=path)
    (path / "ledger.csv").write_bytes(ledger)
    history = (path / "history.jsonl").read_bytes()
    shutil.rmtree(path / "checkpoint")
    with pytest.raises(RunDirectoryError, match="has 3 rounds of history, but no checkpoint"):
        ob.run(resume=path)
    assert (path / "history.jsonl").read_bytes() == history


def test_references_have_no_dropouts_and_no_bytes_to_target(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("centralised", "federation.dropout=0.9", "tracking.targets=[0.1, 0.875, 0.88]")
    summary = ob.run(config, out=tmp_path / "run").summary
    assert summary["failures"] == 0
    assert summary["bytes_to_target"] == {"0.10": None, "0.875": None, "0.88": None}


def test_pooled_data_in_a_federated_method_end_with_the_global_model(quick_config: MakeConfig, tmp_path: Path) -> None:
    result = ob.run(quick_config("fedavg", "method.data=pooled"), out=tmp_path / "run")
    assert result.model is not None
    assert evaluate(result.model, load_task(result.config).dataset.test).accuracy == result.summary["accuracy"]["final"]


def test_nan_losses_are_recorded_and_the_run_continues(quick_config: MakeConfig, tmp_path: Path) -> None:
    result = ob.run(quick_config("fedavg", "training.lr=1e30", "training.momentum=0.9"), out=tmp_path / "run")
    assert len(result.history) == 3
    failures = result.history[0]["failures"]
    assert len(failures) == 4
    assert "loss became" in failures[0]["reason"] or "NaN or infinite" in failures[0]["reason"]
    assert result.summary["failures"] == 12


def test_dropouts_are_recorded_charged_and_repeatable(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("fedavg", "federation.dropout=0.5", "federation.rounds=6")
    first = ob.run(config, out=tmp_path / "a")
    again = ob.run(config, out=tmp_path / "b")
    assert_same_run(first.directory, again.directory)
    dropped = sum(len(record["failures"]) for record in first.history)
    assert 0 < dropped < 24
    assert {f["reason"] for record in first.history for f in record["failures"]} == {"dropped out"}
    order, reply = 4 * 4810 + 24, 4 * 4810 + 30
    assert first.summary["bytes"]["total"] == 24 * order + (24 - dropped) * reply


def test_another_cohort_is_sampled_in_each_round(quick_config: MakeConfig, tmp_path: Path) -> None:
    result = ob.run(quick_config("fedavg", "federation.cohort=2", "federation.rounds=8"), out=tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run" / "ledger.csv").open()))
    cohorts = [{r["client"] for r in rows if r["round"] == str(n) and r["direction"] == "up"} for n in range(1, 9)]
    assert all(len(cohort) == 2 for cohort in cohorts)
    assert len({frozenset(cohort) for cohort in cohorts}) > 1
    assert result.summary["bytes"]["init"] == 4 * (4 * 4810 + 4 + 1 + 3), "each client's first model"


def test_batchnorm_statistics_are_sent_and_charged(quick_config: MakeConfig, tmp_path: Path) -> None:
    plain = ob.run(quick_config("fedavg"), out=tmp_path / "plain")
    normed = ob.run(quick_config("fedavg", "task.model.norm=batch"), out=tmp_path / "normed")
    saved = safetensors.torch.load_file(normed.directory / "model.safetensors")
    running = [name for name in saved if name.endswith("running_mean")]
    assert running
    assert all(saved[name].abs().sum() > 0 for name in running)
    extra = 4 * (normed.summary["parameters"] - plain.summary["parameters"])
    statistics = 64 * 4 * 2 + 8 + 4 + 1 + 2
    per_message = (normed.summary["bytes"]["total"] - plain.summary["bytes"]["total"]) / 24
    assert per_message == extra + statistics


def test_the_run_directory_has_the_documented_files(quick_config: MakeConfig, tmp_path: Path) -> None:
    result = ob.run(quick_config("fedavg"), out=tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary == result.summary
    assert {"method", "dataset", "model", "parameters", "clients", "rounds", "seed", "accuracy", "bytes"} <= set(
        summary
    )
    assert {"bytes_to_target", "seconds"} <= set(summary)
    assert set(summary["accuracy"]) == {"final", "best", "last10"}
    assert {"up", "down", "init", "align", "total", "total_multicast"} <= set(summary["bytes"])
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [1, 2, 3]
    assert ob.read_config(tmp_path / "run" / "config.toml").identity() == result.config.identity()
    assert result.model is not None
    saved = safetensors.torch.load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(saved[name], p) for name, p in result.model.state_dict().items())
    assert len(list((tmp_path / "run" / "checkpoint").iterdir())) == 2, "only the last round's files are kept"
