"""Calls of a model with other tensors than its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def stateless_call(
    model: nn.Module, tensors: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
) -> Any:
    """Call a model with these parameters and buffers. Its own tensors stay unchanged.

    tensors: by parameter or buffer name. A tensor with several names needs only one of them. args, kwargs: the
    arguments of the call.
    Returns the output of the model. `torch.func.functional_call` alone does not restore a module that the model reaches
    by two names. Errors: `ValueError` for an unknown name, or for different values under two names of one tensor.
    """
    own_tensors = _tensors_by_name(model)
    unknown = tensors.keys() - own_tensors.keys()
    if unknown:
        raise ValueError(f"the model has no tensor {min(unknown)!r}")
    duplicates = duplicate_names(model, tensors)
    tensors_by_id = {id(own_tensors[name]): tensor for name, tensor in tensors.items() if name not in duplicates}
    tensors_by_path = {
        f"{path}.{name}" if path else name: tensors_by_id[id(tensor)]
        for path, module in model.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if id(tensor) in tensors_by_id
    }
    return functional_call(model, tensors_by_path, args, kwargs, tie_weights=False)


def duplicate_names(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return each name in `tensors` whose tensor has an earlier name there, with the first of its names.

    Errors: `ValueError` if a tensor has different values under two of its names.
    """
    first_names: dict[int, str] = {}
    duplicates: dict[str, str] = {}
    for name, tensor in _tensors_by_name(model).items():
        if name not in tensors or first_names.setdefault(id(tensor), name) == name:
            continue
        duplicates[name] = first_names[id(tensor)]
        if not torch.equal(tensors[name], tensors[duplicates[name]]):
            raise ValueError(
                f"{name}: has other values than {duplicates[name]}; the model has one tensor by both names"
            )
    return duplicates


def _tensors_by_name(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's parameters and buffers under all of their names."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
