"""The question of all these tests: does a model compute the same, in float64, after its neurons changed places?"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from onebasin.symmetry import PermutationSpec

CLOSE = 1e-10


def outputs(value: Any) -> list[Tensor]:
    """Every tensor in what a model returned."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for each in value.values() for tensor in outputs(each)]
    return [tensor for each in value for tensor in outputs(each)] if isinstance(value, list | tuple) else []


def call(model: nn.Module, inputs: Any) -> list[Tensor]:
    """Run a model as `find_permutations` does: a tensor, a tuple of arguments, or a dict of keyword arguments."""
    with torch.no_grad():
        if isinstance(inputs, Mapping):
            return outputs(model(**inputs))
        return outputs(model(*inputs) if isinstance(inputs, tuple) else model(inputs))


def shaken(model: nn.Module) -> nn.Module:
    """A copy in float64 and evaluation mode, whose parameters and statistics all differ from each other."""
    twin = copy.deepcopy(model).double().eval()
    draws = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in twin.state_dict().values():
            if tensor.is_floating_point():
                positive = bool((tensor >= 0).all()) and bool((tensor > 0).any())
                noise = 0.2 * torch.randn(tensor.shape, generator=draws, dtype=torch.float64)
                tensor.add_(noise.abs() if positive else noise)
    return twin


def difference(model: nn.Module, inputs: Any, spec: PermutationSpec, seed: int = 0) -> float:
    """Largest change of an output under random permutations of every group, relative to the output's largest value."""
    twin = shaken(model)
    inputs = doubled(inputs)
    before = call(twin, inputs)
    twin.load_state_dict(spec.apply(twin.state_dict(), spec.random(seed)))
    after = call(twin, inputs)
    assert len(before) == len(after)
    return max(
        float((one - other).abs().max() / one.abs().max())
        for one, other in zip(before, after, strict=True)
        if one.is_floating_point()
    )


def doubled(inputs: Any) -> Any:
    """Floating point inputs in float64."""
    if isinstance(inputs, Tensor):
        return inputs.double() if inputs.is_floating_point() else inputs
    if isinstance(inputs, Mapping):
        return {name: doubled(each) for name, each in inputs.items()}
    return tuple(map(doubled, inputs)) if isinstance(inputs, tuple) else inputs
