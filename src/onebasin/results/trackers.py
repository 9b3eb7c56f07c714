"""Trackers, which copy the numbers of a run to TensorBoard or MLflow."""

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from onebasin.core.settings import ConfigError
from onebasin.federation.run_config import RunConfig


class Tracker(Protocol):
    """An observer of a run that keeps a file or a connection open until `close`."""

    def on_reply(self, round: int, answered: int, asked: int) -> None:
        """Called after each reply: `answered` of `asked` clients have replied in this round."""
        ...

    def on_round(self, record: dict[str, Any]) -> None:
        """Called after each round with its line of history."""
        ...

    def close(self) -> None:
        """Release the file or the connection."""
        ...


def check_trackers(config: RunConfig) -> None:
    """Raise ConfigError when the configuration enables a tracker whose package is not installed."""
    if config.tracking.tensorboard:
        _require("tensorboard", "tracking.tensorboard")
    if config.tracking.mlflow:
        _require("mlflow", "tracking.mlflow")


def open_trackers(config: RunConfig, directory: Path) -> list[Tracker]:
    """Return the trackers that the configuration enables. directory: the run directory."""
    trackers: list[Tracker] = []
    if config.tracking.tensorboard:
        trackers.append(TensorBoard(directory))
    if config.tracking.mlflow:
        trackers.append(MLflow(config, directory))
    return trackers


class TensorBoard:
    """Writes scalars by round into the folder `tensorboard` of the run directory."""

    def __init__(self, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(directory / "tensorboard"))

    def on_reply(self, round: int, answered: int, asked: int) -> None:
        pass

    def on_round(self, record: dict[str, Any]) -> None:
        for name, value in scalars(record).items():
            self._writer.add_scalar(name, value, record["round"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """Logs metrics by round to the experiment "onebasin" of the tracking server in MLFLOW_TRACKING_URI."""

    def __init__(self, config: RunConfig, directory: Path) -> None:
        self._mlflow = _require("mlflow", "tracking.mlflow")
        self._mlflow.set_experiment("onebasin")
        self._mlflow.start_run(run_name=directory.name)
        self._mlflow.log_params({"method": config.method.name, "seed": config.seed, "hash": config.identity()})
        self._mlflow.log_text(config.to_toml(), "config.toml")

    def on_reply(self, round: int, answered: int, asked: int) -> None:
        pass

    def on_round(self, record: dict[str, Any]) -> None:
        self._mlflow.log_metrics(scalars(record), step=record["round"])

    def close(self) -> None:
        self._mlflow.end_run()


def scalars(record: dict[str, Any]) -> dict[str, float]:
    """Return the numbers in a line of history by name; those that are None are left out."""
    flat = {key: record[key] for key in ("accuracy", "loss", "train_loss", "replies", "seconds")}
    flat |= {f"bytes/{key}": value for key, value in record["bytes"].items()}
    return {key: float(value) for key, value in flat.items() if value is not None}


def _require(package: str, field: str) -> Any:
    """Return a module; ConfigError names the field that needs it when it is not installed."""
    try:
        return import_module(package)
    except ImportError:
        raise ConfigError(f"{field}: needs the package {package!r}: pip install 'onebasin[track]'") from None
