"""Reading of models from files: their weights, their architecture, and probe inputs for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from onebasin.alignment.models import AlignmentError
from onebasin.core.references import build
from onebasin.federation.read_config import read_config
from onebasin.learning.data.examples import Dataset
from onebasin.learning.data.load import load_dataset
from onebasin.learning.models import MODELS, build_model
from onebasin.networks.weight_files import WeightFileError, read_tensors
from onebasin.results.run_directory import RunDirectory

MAX_PROBES = 1000


def read_state(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict in a .safetensors file, with the tensors of `model.state_dict()` in the same order.

    A tied parameter that the file has only under its first name is found under that name.
    Raises AlignmentError, which names the file and the first tensor that is missing, unknown or of another shape.
    """
    try:
        state = read_tensors(path)
    except WeightFileError as error:
        raise AlignmentError(str(error)) from None
    expected = model.state_dict()
    first_names = _first_names(model)
    for name in expected:
        if name not in state and first_names.get(name) in state:
            state[name] = state[first_names[name]]
    for name, tensor in expected.items():
        if name not in state:
            raise AlignmentError(f"{path}: has no tensor {name!r}, which the model has")
        if state[name].shape != tensor.shape:
            raise AlignmentError(
                f"{path}: {name} has shape {list(state[name].shape)}; the model's has {list(tensor.shape)}"
            )
    unknown = [name for name in state if name not in expected]
    if unknown:
        raise AlignmentError(f"{path}: has a tensor {unknown[0]!r}, which the model has not")
    return {name: state[name] for name in expected}


def _first_names(model: nn.Module) -> dict[str, str]:
    """Return for each parameter name the first name of the same tensor; they differ for tied parameters."""
    first: dict[int, str] = {}
    named = model.named_parameters(remove_duplicate=False)
    return {name: first.setdefault(id(parameter), name) for name, parameter in named}


def model_and_data(files: Sequence[Path], model_name: str | None, data: str | None) -> tuple[nn.Module, Dataset | None]:
    """Return the model and the data set that are named, or else those of the first run directory among `files`.

    model_name: a built-in model, or "package.module:factory". data: the name of a data set. The data set is None when
    neither names one.
    Raises AlignmentError when the model is not known or cannot be built, and the errors of the configuration, the model
    and the data set.
    """
    run = next((path for path in files if path.is_dir()), None)
    dataset: Dataset | None
    if run is not None:
        task = read_config(RunDirectory.config_path(run)).task
        dataset = load_dataset(data or task.dataset)
        if model_name is None:
            return build_model(task.model.kind, dataset, 0, **task.model.options), dataset
    else:
        dataset = load_dataset(data) if data else None
    if model_name is None:
        raise AlignmentError("--model is missing: files do not say what model they are of, only run directories do")
    if dataset is not None:
        return build_model(model_name, dataset, 0), dataset
    if model_name in MODELS:
        raise AlignmentError(f"--model {model_name}: a built-in model takes its shape from --data")
    model = build(model_name)
    if not isinstance(model, nn.Module):
        raise AlignmentError(f"--model: {model_name!r} returned a {type(model).__name__}; expected a torch.nn.Module")
    return model, None


def read_probes(dataset: Dataset | None, path: Path | None) -> Tensor:
    """Return unlabelled examples [n, ...], n at most 1,000.

    path: a .npy file with examples; left out, they are the first training examples of the data set. Floating-point
    examples are returned as float32, others as int64.
    Raises AlignmentError when the file is not such an array, or when neither a file nor a data set is given.
    """
    if path is not None:
        try:
            array = np.load(path, allow_pickle=False)
        except ValueError as error:
            raise AlignmentError(f"--inputs {path}: not an array that can be read: {error}") from None
        if not isinstance(array, np.ndarray) or array.ndim < 1 or len(array) < 2:
            raise AlignmentError(f"--inputs {path}: expected a .npy array of two examples or more")
        probes = torch.from_numpy(array)
        return (probes.float() if probes.is_floating_point() else probes.long())[:MAX_PROBES]
    if dataset is None:
        raise AlignmentError("neither --data nor --inputs: one of them is needed, to trace the model with examples")
    return dataset.train.inputs[:MAX_PROBES]


def read_weights(text: str | None) -> list[float] | None:
    """Return the numbers in a text such as "3,1"; None for None. Raises AlignmentError for anything else."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise AlignmentError(f"--weights: {text!r}; expected numbers with commas, such as 3,1") from None
