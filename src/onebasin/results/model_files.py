"""Models that lie in files: their states, what they are of, and examples to ask them with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from onebasin.alignment.models import AlignmentError
from onebasin.core.references import build
from onebasin.federation.read_config import read_config
from onebasin.learning.data.load import Dataset, load_dataset
from onebasin.learning.models import MODELS, build_model
from onebasin.networks.weight_files import WeightFileError, read_tensors
from onebasin.results.run_directory import RunDirectory

MOST_PROBES = 1000


def read_state(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """Return the state in a .safetensors file; errors name the file and the first tensor that is not the model's."""
    try:
        state = read_tensors(path)
    except WeightFileError as error:
        raise AlignmentError(str(error)) from None
    expected = model.state_dict()
    shared = _shared_names(model)
    for name in expected:
        if name not in state and shared.get(name) in state:
            state[name] = state[shared[name]]
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


def _shared_names(model: nn.Module) -> dict[str, str]:
    """For names of tied parameters: the first name of each, under which files may have it alone."""
    first: dict[int, str] = {}
    named = model.named_parameters(remove_duplicate=False)
    return {name: first.setdefault(id(parameter), name) for name, parameter in named}


def model_and_data(files: Sequence[Path], model_name: str | None, data: str | None) -> tuple[nn.Module, Dataset | None]:
    """Return the model and data that are named, or else those of the first run directory among the files."""
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
    """Return unlabelled examples, at most 1,000: those in a .npy file, or else the data set's first ones."""
    if path is not None:
        try:
            array = np.load(path, allow_pickle=False)
        except ValueError as error:
            raise AlignmentError(f"--inputs {path}: not an array that can be read: {error}") from None
        if not isinstance(array, np.ndarray) or array.ndim < 1 or len(array) < 2:
            raise AlignmentError(f"--inputs {path}: expected a .npy array of two examples or more")
        probes = torch.from_numpy(array)
        return (probes.float() if probes.is_floating_point() else probes.long())[:MOST_PROBES]
    if dataset is None:
        raise AlignmentError("neither --data nor --inputs: one of them is needed, to trace the model with examples")
    return dataset.train.inputs[:MOST_PROBES]


def read_weights(text: str | None) -> list[float] | None:
    """Return the numbers in a list such as "3,1"; None for none."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise AlignmentError(f"--weights: {text!r}; expected numbers with commas, such as 3,1") from None
