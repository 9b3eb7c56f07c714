from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.report.conftest import build_run

from onebasin.report.against import against_figure, write_against
from onebasin.report.arms import ReportError
from onebasin.results.records import RunRecord, write_result


def runs_with_varied_epochs() -> list[RunRecord]:
    runs = [
        build_run(f"FedAvg epochs={epochs}", epochs=epochs, seed=seed, ceiling=0.7 + epochs / 50)
        for epochs in (1, 2, 8)
        for seed in (0, 1)
    ]
    return [*runs, build_run("level", epochs=2)]


def test_each_arm_is_a_line_and_each_task_a_panel() -> None:
    figure = against_figure(
        [*runs_with_varied_epochs(), *[build_run("FedAvg", epochs=e, dataset="mnist") for e in (1, 8)]],
        "training.epochs",
    )
    assert [axes.get_title(loc="left").split(" · ")[0] for axes in figure.axes] == ["fashion-mnist", "mnist"]
    first = figure.axes[0]
    assert first.get_xlabel() == "epochs"
    curves = [list(map(float, line.get_xdata())) for line in first.lines]
    assert [1.0, 2.0, 8.0] in curves
    assert [0.0, 1.0] in curves, "an arm with one value is a horizontal line"
    assert {text.get_text() for text in figure.texts} == {"FedAvg", "level"}


def test_numbers_of_clients_share_a_task_when_they_are_the_setting() -> None:
    runs = [build_run(clients=clients) for clients in (2, 5, 50)]
    figure = against_figure(runs, "task.clients")
    assert len(figure.axes) == 1
    assert figure.axes[0].get_xscale() == "log"


def test_products_of_settings() -> None:
    def with_signatures(features: int, bits: int) -> RunRecord:
        run = build_run(f"signatures features={features} bits={bits}")
        config: dict[str, Any] = {**run.config, "alignment": {"features": features, "bits": bits}}
        return replace(run, config=config)

    figure = against_figure(
        [with_signatures(16, 1), with_signatures(16, 4), with_signatures(64, 4)], "alignment.features*alignment.bits"
    )
    assert figure.axes[0].get_xlabel() == "features × bits"
    assert list(figure.axes[0].lines[0].get_xdata()) == [16.0, 64.0, 256.0]


def test_what_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"training\.epoch: no number in these runs; expected several"):
        against_figure(runs_with_varied_epochs(), "training.epoch")
    with pytest.raises(ReportError, match=r"federation\.rounds: one value in these runs"):
        against_figure(runs_with_varied_epochs(), "federation.rounds")
    with pytest.raises(ReportError, match="holds no run"):
        write_against(tmp_path, "training.epochs")
    for number, run in enumerate(runs_with_varied_epochs()):
        write_result(replace(run, summary=run.summary | {"config_hash": f"{number:016x}"}), tmp_path)
    assert write_against(tmp_path, "training.epochs").stat().st_size > 1000
