"""A federation as it is deployed: a SuperLink with TLS, nodes with registered keys, each a process of its own.

``make test-flower`` runs the short one; ``.venv-flower/bin/pytest -m flower`` those too in which processes are killed.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import onebasin as ob

pytestmark = pytest.mark.flower

LOCAL = Path(__file__).parents[3] / "deploy" / "local.sh"
NODES = 3
LONGEST = 480.0
"""Seconds that are waited for anything; a process that never answers should end the test."""

SETTINGS = [
    "fedavg",
    f"task.clients={NODES}",
    "method.start=local",
    "method.frame=signatures",
    "training.momentum=0.9",
    "training.keep_optimizer=true",  # so that clients remember something, beside their first model
]


class Federation:
    """The processes that `deploy/local.sh` starts, with their files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PORT": str(free_ports(1 + NODES)),
            "FLWR_HOME": str(folder / "home"),
            "OMP_NUM_THREADS": "1",
        }

    def local(self, verb: str, *arguments: str) -> None:
        command = ["sh", str(LOCAL), verb, str(self.folder), *arguments]
        subprocess.run(command, env=self.environment, check=True, timeout=LONGEST)

    def run(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "onebasin", "run", *arguments]
        return subprocess.Popen(
            command, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def kill(self, name: str, program: str = "") -> None:
        """Kill all processes that were started as `name`, or only those of them that run `program`."""
        group = int((self.folder / f"{name}.pid").read_text())
        if not program:
            os.killpg(group, signal.SIGKILL)
            return
        command = ["pgrep", "--pgroup", str(group), "--full", program]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        assert found, f"{name} runs no {program}"
        for pid in found:
            os.kill(int(pid), signal.SIGKILL)


def free_ports(count: int) -> int:
    """Return the first of `count` consecutive ports on which nobody listens."""
    for first in range(20000 + os.getpid() % 1000 * 10, 32000, 10):
        try:
            for port in range(first, first + count):
                with socket.socket() as listener:
                    listener.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise OSError("no free ports")


def until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LONGEST
    while not true():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.2)


def history(run: Path) -> list[dict[str, Any]]:
    path = run / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def assert_same(run: Path, expected: Path) -> None:
    """Check that both runs have the same weights, and the same bytes by client, round, direction and kind."""
    for name in ("model.safetensors", "ledger.csv"):
        assert (run / name).read_bytes() == (expected / name).read_bytes(), name
    assert json.loads((run / "summary.json").read_bytes())["failures"] == 0


def killed_after_a_round(federation: Federation, run: Path, settings: list[str], *killed: str) -> tuple[int, str]:
    """Start a run, kill processes after its first round, wait for its end; return its exit status and its output."""
    process = federation.run(*settings, "engine=flower", "--out", str(run))
    until(lambda: len(history(run)) == 1, process)
    federation.kill(*killed)
    said, _ = process.communicate(timeout=LONGEST)
    return process.returncode, said


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    pytest.importorskip("flwr")
    made = Federation(tmp_path_factory.mktemp("federation"))
    try:
        made.local("up", str(NODES))
        yield made
    finally:
        made.local("down")


def test_a_tls_federation_equals_a_run_in_process_bit_for_bit(federation: Federation, tmp_path: Path) -> None:
    settings = [*SETTINGS, "federation.rounds=2"]
    process = federation.run(*settings, "engine=flower", "--out", str(tmp_path / "flower"))
    said, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, said
    expected = ob.run(settings[0], settings[1:], out=tmp_path / "single")
    assert_same(tmp_path / "flower", tmp_path / "single")
    assert f"round 2: {NODES} replies" in said
    assert expected.summary["bytes"]["align"] > 0


@pytest.mark.slow
def test_a_killed_server_resumes_from_its_checkpoint(federation: Federation, tmp_path: Path) -> None:
    settings = [*SETTINGS, "federation.rounds=3", "seed=1"]
    run = tmp_path / "flower"
    status, said = killed_after_a_round(federation, run, settings, "superexec", "/flwr-serverapp")
    assert status == 1, said
    assert f"--resume {run}" in said
    assert len(history(run)) < 3

    resumed = federation.run("--resume", str(run))
    said, _ = resumed.communicate(timeout=LONGEST)
    assert resumed.returncode == 0, said
    ob.run(settings[0], settings[1:], out=tmp_path / "single")
    assert_same(run, tmp_path / "single")


@pytest.mark.slow
def test_a_killed_superlink_is_awaited(federation: Federation, tmp_path: Path) -> None:
    settings = [*SETTINGS, "federation.rounds=3", "seed=2"]
    run = tmp_path / "flower"
    # what started the SuperLink starts it again
    status, said = killed_after_a_round(federation, run, settings, "superlink", "/flower-superlink")
    assert status == 0, said
    ob.run(settings[0], settings[1:], out=tmp_path / "single")
    assert_same(run, tmp_path / "single")


@pytest.mark.slow
def test_a_killed_node_returns_with_its_client_s_state(federation: Federation, tmp_path: Path) -> None:
    run = tmp_path / "flower"
    settings = [*SETTINGS, "federation.rounds=4", "seed=3", "engine=flower", "engine.patience=200"]
    process = federation.run(*settings, "--out", str(run))
    until(lambda: len(history(run)) == 1, process)
    federation.kill("node1")
    federation.local("node", "1")
    said, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, said
    records = history(run)
    failures = [(record["round"], failure) for record in records for failure in record["failures"]]
    assert len(failures) <= 1, failures  # it may have been between two orders
    for round, failure in failures:
        assert round >= 2
        assert failure["client"] == 1
        assert "the node went away" in failure["reason"]
    assert [record["replies"] for record in records][-1] == NODES
