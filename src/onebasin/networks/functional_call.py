"""Calling a model with other tensors than its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def stateless_call(
    model: nn.Module, tensors: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
) -> Any:
    """Return what the model returns with these parameters and buffers; its own stay as they are.

    What a model has by several names needs to be given by one. `torch.func.functional_call` alone leaves a model that
    reaches a module by two names with the tensors that it was called with. `ValueError` for a name that is none of its,
    or two of one tensor with different values.
    """
    own = _own(model)
    unknown = tensors.keys() - own.keys()
    if unknown:
        raise ValueError(f"the model has no tensor {min(unknown)!r}")
    seconds = second_names(model, tensors)
    given = {id(own[name]): tensor for name, tensor in tensors.items() if name not in seconds}
    places = {
        f"{path}.{name}" if path else name: given[id(tensor)]
        for path, module in model.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if id(tensor) in given
    }
    return functional_call(model, places, args, kwargs, tie_weights=False)


def second_names(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return those of the names by which the model has a tensor once more, each with the first of that tensor's.

    `ValueError` where the two have different values.
    """
    first: dict[int, str] = {}
    seconds: dict[str, str] = {}
    for name, tensor in _own(model).items():
        if name not in tensors or first.setdefault(id(tensor), name) == name:
            continue
        seconds[name] = first[id(tensor)]
        if not torch.equal(tensors[name], tensors[seconds[name]]):
            raise ValueError(f"{name}: has other values than {seconds[name]}; the model has one tensor by both names")
    return seconds


def _own(model: nn.Module) -> dict[str, Tensor]:
    """The model's parameters and buffers under all their names."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
