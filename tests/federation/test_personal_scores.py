"""Personal scores: each client's own model, or the global one, on the client's label distribution."""

from collections.abc import Callable
from pathlib import Path

import pytest

import onebasin as ob
from onebasin.core.layout import Tensors
from onebasin.core.settings import ConfigError
from onebasin.core.state import State
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.load_task import load_task
from onebasin.learning.metrics import evaluate_by_class
from onebasin.learning.task import Task
from onebasin.networks.weights import copy_into, parameters_of

MakeConfig = Callable[..., RunConfig]
SKEWED = ('task.partition={kind="classes-per-client", classes=2}', "task.clients=5")


def served(task: Task, client: int, weights: Tensors) -> float:
    """Return the sum over classes of the client's share of the class times the accuracy on it, computed one by one."""
    model, test = task.workspace(), task.dataset.test
    copy_into(parameters_of(model), weights)
    said = model.eval()(test.inputs).argmax(1)
    held = task.dataset.train.targets[task.parts[client]].tolist()
    accuracy = 0.0
    for label in set(held):
        mine = test.targets == label
        accuracy += held.count(label) / len(held) * float((said[mine] == label).double().mean())
    return accuracy


def test_clients_that_keep_their_models_report_their_personal_scores(quick_config: MakeConfig, tmp_path: Path) -> None:
    plain = ob.run(quick_config("local-only", *SKEWED), out=tmp_path / "plain")
    run = ob.run(quick_config("local-only", "method.score=personal", *SKEWED), out=tmp_path / "run")
    task = load_task(run.config)
    files = sorted((tmp_path / "run" / "checkpoint").glob("client-*.safetensors"))
    kept = [State.from_bytes(file.read_bytes()).slots["weights"] for file in files]
    accuracy = sum(served(task, client, weights) for client, weights in enumerate(kept)) / 5
    assert run.summary["accuracy"]["final"] == pytest.approx(accuracy, abs=1e-6)
    assert accuracy > 0.8 > 0.3 > plain.summary["accuracy"]["final"], "two labels of ten are easy; ten are not"
    assert run.summary["bytes"] == plain.summary["bytes"], "no label is counted for the server: the same report"


def test_a_global_model_is_scored_on_the_labels_of_every_client(quick_config: MakeConfig, tmp_path: Path) -> None:
    plain = ob.run(quick_config("fedavg", *SKEWED), out=tmp_path / "plain")
    run = ob.run(quick_config("fedavg", "method.score=personal", *SKEWED), out=tmp_path / "run")
    task = load_task(run.config)
    assert run.model is not None
    weights = parameters_of(run.model)
    accuracy = sum(served(task, client, weights) for client in range(5)) / 5
    assert run.summary["accuracy"]["final"] == pytest.approx(accuracy, abs=1e-9)
    assert run.summary["bytes"] == plain.summary["bytes"], "nobody says anything more"


def test_clients_report_the_score_of_the_fine_tuned_global_model(quick_config: MakeConfig, tmp_path: Path) -> None:
    common = ob.run(quick_config("fedavg", "method.score=personal", *SKEWED), out=tmp_path / "common")
    run = ob.run(quick_config("fedavg", "method.score=fine-tuned", *SKEWED), out=tmp_path / "run")
    assert run.summary["accuracy"]["final"] > common.summary["accuracy"]["final"] + 0.2
    up = [each.summary["bytes"]["up"] for each in (common, run)]
    assert up[1] - up[0] == 3 * 5 * 8, "an accuracy and a loss in each report"


def test_a_client_without_examples_is_left_out(quick_config: MakeConfig) -> None:
    task = load_task(quick_config("fedavg", *SKEWED))
    task.parts[3] = task.parts[3][:0]
    found = evaluate_by_class(task.workspace(), task.dataset.test, 10)
    assert [found.on(task.labels(client)) is None for client in range(5)] == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("method", "overrides", "message"),
    [
        ("local-only", ["method.score=fine-tuned"], "clients that keep theirs have 'personal'"),
        ("fedavg", ["method.score=fine-tuned", "method.privacy={clip=1.0, noise=1.0}"], "report what has no noise"),
        ("fedavg", ["method.score=personal", "task.partition=own", "engine=flower"], "only the machines know"),
        ("fedavg", ["method.score=own"], "method.score: got 'own'"),
    ],
)
def test_scores_that_do_not_go_with_a_method_are_refused(method: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(method, overrides)
