"""Reading of a finished run: its configuration, its final model, and a few inputs for that model."""

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

MAX_EXAMPLES = 64


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    model: in evaluation mode, with its final weights; what a parametrization trained is folded into plain weights.
    examples: inputs from the test set [n, ...], n at most 64. classes: the number of classes.
    """

    config: RunConfig
    model: nn.Module
    examples: Tensor
    classes: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.examples.shape[1:])


def read_finished_run(run: Path) -> FinishedRun:
    """Return the finished run in the directory `run`.

    Raises RunDirectoryError when there is no run, when it is not finished, or when it ended without a common model,
    and the errors of the configuration, the model and the data set.
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
    return FinishedRun(config, model.eval(), dataset.test.inputs[:MAX_EXAMPLES], dataset.classes)
