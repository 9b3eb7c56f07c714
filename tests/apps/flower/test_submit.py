"""Submitting a run, with a script in the place of Flower's command."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from onebasin.apps.flower import submit as module
from onebasin.apps.flower.submit import submit
from onebasin.federation.engine import EngineError
from onebasin.federation.run_config import RunConfig

MakeConfig = Callable[..., RunConfig]

PLAYED = """
import json, pathlib, sys
said = json.loads(pathlib.Path(sys.argv[1]).read_text())
asked = pathlib.Path(sys.argv[1] + ".asked")
lines = asked.read_text().splitlines() if asked.exists() else []
asked.write_text("\\n".join([*lines, sys.argv[2]]))
answers = said.get(sys.argv[2], [""])
print(answers[min(lines.count(sys.argv[2]), len(answers) - 1)])
"""


def listed(status: str) -> str:
    return json.dumps({"runs": [{"status": status}]})


@pytest.fixture
def flwr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Simulate Flower's command with the outputs of `run` and `list`, call by call; return the file of its calls."""

    def play(run: str, *lists: str) -> Path:
        answers = tmp_path / "answers.json"
        answers.write_text(json.dumps({"run": [run], "list": lists}))
        monkeypatch.setattr(module, "_COMMAND", [sys.executable, "-S", "-c", PLAYED, str(answers)])
        monkeypatch.setattr(module, "PAUSE", 0.0)
        return answers.with_name("answers.json.asked")

    return play


def test_a_run_is_followed_while_the_superlink_is_unreachable_at_times(
    flwr: Callable[..., Path], quick_config: MakeConfig, tmp_path: Path
) -> None:
    away = json.dumps({"success": False, "error-message": "unavailable"})
    asked = flwr('{"run-id": "7"}', away, "no JSON at all", listed("running"), listed("finished:completed"))
    submit(quick_config("fedavg", "engine=flower"), tmp_path / "run")
    assert asked.read_text().split() == ["run", *["log", "list"] * 4]


@pytest.mark.parametrize(
    ("run", "status", "error"),
    [
        ('{"run-id": "7"}', listed("finished:failed"), "run 7 is finished:failed.*--resume"),
        ('{"run-id": "7"}', "", r"the SuperLink has been away for 0\.001 s; run 7"),
        ('{"success": false, "error-message": "full"}', "", "the SuperLink did not take the run: full"),
        ("Traceback", "", "flwr run failed: Traceback"),
    ],
)
def test_a_run_that_fails_is_an_error(
    run: str, status: str, error: str, flwr: Callable[..., Path], quick_config: MakeConfig, tmp_path: Path
) -> None:
    flwr(run, status)
    with pytest.raises(EngineError, match=error):
        submit(quick_config("fedavg", "engine=flower", "engine.deadline=0.001"), tmp_path / "run")
