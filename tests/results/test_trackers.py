from collections.abc import Callable
from pathlib import Path

import pytest

import onebasin as ob
from onebasin.core.settings import ConfigError
from onebasin.federation.run_config import RunConfig
from onebasin.results import trackers

MakeConfig = Callable[..., RunConfig]


def test_tensorboard_gets_every_round(quick_config: MakeConfig, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = ob.run(quick_config("fedavg", "tracking.tensorboard=true"), out=tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    scalars = events.Scalars("accuracy")
    assert [s.step for s in scalars] == [1, 2, 3]
    assert [s.value for s in scalars] == pytest.approx([r["accuracy"] for r in result.history])
    assert events.Scalars("bytes/total")[-1].value == result.summary["bytes"]["total"]


def test_mlflow_gets_every_round(quick_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    result = ob.run(quick_config("fedavg", "tracking.mlflow=true"), out=tmp_path / "run")
    client = mlflow.tracking.MlflowClient()
    experiment = client.get_experiment_by_name("onebasin")
    (found,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, "accuracy")
    assert [(m.step, m.value) for m in history] == [(r["round"], r["accuracy"]) for r in result.history]
    assert found.data.params["hash"] == result.config.identity()


def test_a_missing_package_is_named(quick_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> None:
        raise ImportError(package)

    monkeypatch.setattr(trackers, "import_module", missing)
    with pytest.raises(
        ConfigError, match=r"tracking\.mlflow: needs the package 'mlflow': pip install 'onebasin\[track\]'"
    ):
        trackers.check_trackers(quick_config("fedavg", "tracking.mlflow=true"))
