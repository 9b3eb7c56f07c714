"""Checks and views of the state dicts that are aligned: all of one architecture, complete and finite."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onebasin.networks.functional_call import duplicate_names
from onebasin.symmetry.spec import PermutationSpec

StateDict = Mapping[str, Tensor]
"""Tensors by the names in a model's state_dict."""


class AlignmentError(ValueError):
    """Models that cannot be aligned. The message names the model, the tensor, what was found and what was expected."""


class NotFiniteWeights(AlignmentError):
    """Weights that are NaN or infinite."""


def check_model(spec: PermutationSpec, state: StateDict, model_name: str) -> None:
    """Raise `AlignmentError` if a tensor of the spec is missing, has another shape, or has NaN or infinite weights.

    model_name: the model's name in the message.
    """
    for name, entry in spec.tensors.items():
        if name not in state:
            if entry.same_as is not None:
                continue
            raise AlignmentError(f"{model_name}: has no tensor {name!r}, which the permutations were found for")
        tensor = state[name]
        if tuple(tensor.shape) != entry.shape:
            raise AlignmentError(f"{model_name}: {name} has shape {list(tensor.shape)}; expected {list(entry.shape)}")
        if entry.parameter:
            check_finite({name: tensor}, model_name)


def check_finite(state: StateDict, model_name: str) -> None:
    """Raise `NotFiniteWeights` if a tensor has NaN or infinite values."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NotFiniteWeights(f"{model_name}: {name} has weights that are NaN or infinite")


def model_parameters(model: nn.Module, state: StateDict) -> dict[str, Tensor]:
    """Return the tensors of a state that are parameters of the model, not buffers, which may contain infinities."""
    names = (name for name, _ in model.named_parameters(remove_duplicate=False))
    return {name: state[name] for name in names if name in state}


def without_duplicates(model: nn.Module, state: StateDict) -> dict[str, Tensor]:
    """Return a state with only the first name of tensors that the model has under several, such as tied embeddings.

    Errors: `AlignmentError` if a tensor has different values under two of its names.
    """
    try:
        duplicates = duplicate_names(model, state)
    except ValueError as error:
        raise AlignmentError(str(error)) from None
    return {name: tensor for name, tensor in state.items() if name not in duplicates}


def with_all_names(model: nn.Module, original: StateDict, tensors: StateDict) -> dict[str, Tensor]:
    """Undo `without_duplicates(model, original)`: return `tensors` with all names and the order of `original`."""
    duplicates = duplicate_names(model, original)
    return {name: tensors[duplicates[name]].clone() if name in duplicates else tensors[name] for name in original}


def matching_parameters(spec: PermutationSpec, state: StateDict) -> dict[str, Tensor]:
    """Return the parameters by which models are matched, in float32 on the CPU. A shared tensor appears once."""
    return {
        name: state[name].detach().float().cpu()
        for name, entry in spec.tensors.items()
        if entry.parameter and entry.same_as is None
    }
