"""Calling a model with other tensors than its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def stateless_call(
    model: nn.Module, tensors: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
) -> Any:
    """Return what the model returns with these parameters and buffers; its own stay as they are.

    What a model has by several names needs to be given by one. `torch.func.functional_call` alone leaves a model that
    reaches a module by two names with the tensors that it was called with. `ValueError` for a name that is none of it.
    """
    own = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    unknown = tensors.keys() - dict(own).keys()
    if unknown:
        raise ValueError(f"the model has no tensor {min(unknown)!r}")
    given: dict[int, Tensor] = {}
    for name, tensor in own:
        if name in tensors:
            given.setdefault(id(tensor), tensors[name])
    places = {
        f"{path}.{name}" if path else name: given[id(tensor)]
        for path, module in model.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if id(tensor) in given
    }
    return functional_call(model, places, args, kwargs, tie_weights=False)
