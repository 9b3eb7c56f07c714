"""What can be aligned: states of one architecture, whole and finite."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onebasin.networks.functional_call import duplicate_names
from onebasin.symmetry.spec import PermutationSpec

State = Mapping[str, Tensor]


class AlignmentError(ValueError):
    """Models that cannot be aligned; the message names the model, the tensor, what it is and what it should be."""


class NotFiniteWeights(AlignmentError):
    """Weights that are NaN or infinite, as no model can use them."""


def check_model(spec: PermutationSpec, state: State, who: str) -> None:
    """Raise `AlignmentError` if a tensor of the spec is missing, has another shape, or has NaN or infinite weights."""
    for name, entry in spec.tensors.items():
        if name not in state:
            if entry.same_as is not None:
                continue
            raise AlignmentError(f"{who}: has no tensor {name!r}, which the permutations were found for")
        tensor = state[name]
        if tuple(tensor.shape) != entry.shape:
            raise AlignmentError(f"{who}: {name} has shape {list(tensor.shape)}; expected {list(entry.shape)}")
        if entry.parameter:
            check_finite({name: tensor}, who)


def check_finite(state: State, who: str) -> None:
    """Raise `NotFiniteWeights` if a tensor has NaN or infinite values."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NotFiniteWeights(f"{who}: {name} has weights that are NaN or infinite")


def trained(model: nn.Module, state: State) -> dict[str, Tensor]:
    """Return the model's parameters among the tensors of a state; buffers may be masks of infinities."""
    names = (name for name, _ in model.named_parameters(remove_duplicate=False))
    return {name: state[name] for name in names if name in state}


def each_once(model: nn.Module, state: State) -> dict[str, Tensor]:
    """Return a state without the second names of tensors that the model has twice, as tied embeddings are.

    `AlignmentError` where a state has other values under the second name.
    """
    try:
        duplicates = duplicate_names(model, state)
    except ValueError as error:
        raise AlignmentError(str(error)) from None
    return {name: tensor for name, tensor in state.items() if name not in duplicates}


def named_like(model: nn.Module, given: State, found: State) -> dict[str, Tensor]:
    """Return what was found for a state `each_once`, under all names and in the order that the given state has."""
    duplicates = duplicate_names(model, given)
    return {name: found[duplicates[name]].clone() if name in duplicates else found[name] for name in given}


def parameters(spec: PermutationSpec, state: State) -> dict[str, Tensor]:
    """Return what models are matched by: the parameters in float32 on the CPU, each shared tensor once."""
    return {
        name: state[name].detach().float().cpu()
        for name, entry in spec.tensors.items()
        if entry.parameter and entry.same_as is None
    }
