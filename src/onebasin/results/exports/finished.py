"""What a run directory holds when the run is finished: its configuration and its final model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.data.load import load_dataset
from onebasin.learning.models import build_model
from onebasin.results.model_files import read_state
from onebasin.results.run_directory import RunDirectory, RunDirectoryError

MOST_EXAMPLES = 64


@dataclass(frozen=True)
class Finished:
    """model: with its final weights, whatever was trained in their place; in evaluation mode. examples: a few inputs.

    input: the shape of one example.
    """

    config: RunConfig
    model: nn.Module
    examples: Tensor
    classes: int

    @property
    def input(self) -> tuple[int, ...]:
        return tuple(self.examples.shape[1:])


def read_finished(run: Path) -> Finished:
    """Return the finished run in a directory.

    `RunDirectoryError` when there is none, when it is not finished, or when it ended without a common model; errors of
    the model and the data set.
    """
    config = read_config(RunDirectory.config_path(run))
    if not (run / "summary.json").exists():
        raise RunDirectoryError(f"{run} is not finished; go on with: onebasin run --resume {run}")
    file = run / "model.safetensors"
    if not file.exists():
        raise RunDirectoryError(f"{run} has no common model: with {config.method.name!r} every client has its own")
    dataset = load_dataset(config.task.dataset)
    model = build_model(config.task.model.kind, dataset, 0, **config.task.model.options)
    model.load_state_dict(read_state(file, model))
    return Finished(config, model.eval(), dataset.test.inputs[:MOST_EXAMPLES], dataset.classes)
