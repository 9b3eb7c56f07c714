"""The check that these tests share: a model computes the same function, in float64, after its neurons are permuted."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from onebasin.symmetry import PermutationSpec

CLOSE = 1e-10


def outputs(value: Any) -> list[Tensor]:
    """Every tensor in a model's return value."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for each in value.values() for tensor in outputs(each)]
    return [tensor for each in value for tensor in outputs(each)] if isinstance(value, list | tuple) else []


def call(model: nn.Module, inputs: Any) -> list[Tensor]:
    """Call a model with inputs as `find_permutations` takes them: a tensor, a tuple of arguments, or a dict of
    keywords."""
    with torch.no_grad():
        if isinstance(inputs, Mapping):
            return outputs(model(**inputs))
        return outputs(model(*inputs) if isinstance(inputs, tuple) else model(inputs))


def perturbed_copy(model: nn.Module) -> nn.Module:
    """A copy in float64 and evaluation mode whose parameters and statistics all differ from each other."""
    model_copy = copy.deepcopy(model).double().eval()
    draws = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in model_copy.state_dict().values():
            if tensor.is_floating_point():
                positive = bool((tensor >= 0).all()) and bool((tensor > 0).any())
                noise = 0.2 * torch.randn(tensor.shape, generator=draws, dtype=torch.float64)
                tensor.add_(noise.abs() if positive else noise)
    return model_copy


def difference(model: nn.Module, inputs: Any, spec: PermutationSpec, seed: int = 0) -> float:
    """The largest change of an output under random permutations of all groups, relative to its largest value."""
    model_copy = perturbed_copy(model)
    inputs = to_double(inputs)
    before = call(model_copy, inputs)
    model_copy.load_state_dict(spec.apply(model_copy.state_dict(), spec.random(seed)))
    after = call(model_copy, inputs)
    assert len(before) == len(after)
    return max(
        float((one - other).abs().max() / one.abs().max())
        for one, other in zip(before, after, strict=True)
        if one.is_floating_point()
    )


def to_double(inputs: Any) -> Any:
    """Convert floating-point inputs to float64."""
    if isinstance(inputs, Tensor):
        return inputs.double() if inputs.is_floating_point() else inputs
    if isinstance(inputs, Mapping):
        return {name: to_double(each) for name, each in inputs.items()}
    return tuple(map(to_double, inputs)) if isinstance(inputs, tuple) else inputs
