"""Tensors in nested arguments and outputs of models."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from onebasin.symmetry.errors import SymmetryError

HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Example:
    """Arguments of one call of a model. Tensors may be in tuples, lists, mappings and dataclasses, not in other
    objects."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def map(self, change: Any) -> Example:
        """The example with a function applied to each tensor."""
        return Example(
            tuple(map_tensors(arg, change) for arg in self.args),
            {k: map_tensors(v, change) for k, v in self.kwargs.items()},
        )

    def tensors(self) -> list[Tensor]:
        """Every tensor in the example."""
        found: list[Tensor] = []

        def append(tensor: Tensor) -> Tensor:
            found.append(tensor)
            return tensor

        self.map(append)
        return found


def read_examples(inputs: object) -> list[Example]:
    """Read `example_inputs`: one example, or a list of several. Raises SymmetryError for anything else."""
    if isinstance(inputs, list):
        if not inputs:
            raise SymmetryError("example_inputs: an empty list; expected at least one example")
        return [each for entry in inputs for each in read_examples(entry if not isinstance(entry, list) else (entry,))]
    if isinstance(inputs, Tensor):
        example = Example((inputs,), {})
    elif isinstance(inputs, tuple):
        example = Example(inputs, {})
    elif isinstance(inputs, Mapping) and all(isinstance(key, str) for key in inputs):
        example = Example((), dict(inputs))
    else:
        raise SymmetryError(
            f"example_inputs: {type(inputs).__name__}; expected a tensor, a tuple of arguments, a dict of keyword "
            "arguments, or a list of such examples"
        )
    if not example.tensors():
        raise SymmetryError("example_inputs: no tensor in them")
    return [example.map(_to_cpu)]


def _to_cpu(tensor: Tensor) -> Tensor:
    """A copy on the CPU, in single precision if it was in half precision."""
    if tensor.layout != torch.strided:
        raise SymmetryError(f"example_inputs: a tensor of layout {tensor.layout}; expected dense ones")
    tensor = tensor.detach().to("cpu", copy=True)
    return tensor.float() if tensor.dtype in HALF else tensor


def tensors_of(value: object) -> list[Tensor]:
    """The tensors in a value: in tuples, lists, mappings and dataclasses, not in other objects."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for each in value.values() for tensor in tensors_of(each)]
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in tensors_of(each)]
    if is_dataclass(value) and not isinstance(value, type):
        return [tensor for each in fields(value) for tensor in tensors_of(getattr(value, each.name))]
    return []


def map_tensors(value: Any, change: Any) -> Any:
    """A copy of a nested value with a function applied to each tensor. Other objects are kept as they are."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(map_tensors(each, change) for each in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(each, change) for each in value))
    if isinstance(value, MutableMapping):
        mapping = copy.copy(value)
        for key, each in value.items():
            mapping[key] = map_tensors(each, change)
        return mapping
    if is_dataclass(value) and not isinstance(value, type):
        record = copy.copy(value)
        for field in fields(value):
            object.__setattr__(record, field.name, map_tensors(getattr(value, field.name), change))
        return record
    return value
