"""Trackers: the run's numbers in TensorBoard or MLflow, beside its own directory."""

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from onebasin.core.settings import ConfigError
from onebasin.federation.run_config import RunConfig


class Tracker(Protocol):
    """An observer that holds something open until the run ends."""

    def on_reply(self, round: int, answered: int, asked: int) -> None: ...

    def on_round(self, record: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


def check_trackers(config: RunConfig) -> None:
    """Raise `ConfigError` if the package of a tracker that the configuration asks for is not installed."""
    if config.tracking.tensorboard:
        _require("tensorboard", "tracking.tensorboard")
    if config.tracking.mlflow:
        _require("mlflow", "tracking.mlflow")


def open_trackers(config: RunConfig, directory: Path) -> list[Tracker]:
    """Return the trackers that the configuration asks for."""
    trackers: list[Tracker] = []
    if config.tracking.tensorboard:
        trackers.append(TensorBoard(directory))
    if config.tracking.mlflow:
        trackers.append(MLflow(config, directory))
    return trackers


class TensorBoard:
    """Scalars by round under ``<run directory>/tensorboard``."""

    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory / "tensorboard"))

    def on_reply(self, round: int, answered: int, asked: int) -> None:
        pass

    def on_round(self, record: dict[str, Any]) -> None:
        for name, value in numbers(record).items():
            self._writer.add_scalar(name, value, record["round"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """Metrics by round in the experiment "onebasin" of the tracking server that MLFLOW_TRACKING_URI names."""

    def __init__(self, config: RunConfig, directory: Path) -> None:
        self._mlflow = _require("mlflow", "tracking.mlflow")
        self._mlflow.set_experiment("onebasin")
        self._mlflow.start_run(run_name=directory.name)
        self._mlflow.log_params({"method": config.method.name, "seed": config.seed, "hash": config.identity()})
        self._mlflow.log_text(config.to_toml(), "config.toml")

    def on_reply(self, round: int, answered: int, asked: int) -> None:
        pass

    def on_round(self, record: dict[str, Any]) -> None:
        self._mlflow.log_metrics(numbers(record), step=record["round"])

    def close(self) -> None:
        self._mlflow.end_run()


def numbers(record: dict[str, Any]) -> dict[str, float]:
    """Return the numbers in a line of history, by name."""
    flat = {key: record[key] for key in ("accuracy", "loss", "train_loss", "replies", "seconds")}
    flat |= {f"bytes/{key}": value for key, value in record["bytes"].items()}
    return {key: float(value) for key, value in flat.items() if value is not None}


def _require(package: str, field: str) -> Any:
    try:
        return import_module(package)
    except ImportError:
        raise ConfigError(f"{field}: needs the package {package!r}: pip install 'onebasin[track]'") from None
