"""Execution of a model in float64."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from onebasin.symmetry.expectations import expectation
from onebasin.symmetry.nested_tensors import map_tensors

BELOW_DOUBLE = (torch.float16, torch.bfloat16, torch.float32)


class DoublePrecision(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Compute every operation in float64, and replace random draws by their expectation.

    Operations without a float64 implementation are computed in float32; their names are added to `single_precision`.
    """

    def __init__(self, single_precision: set[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.single_precision = single_precision

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise the first operation imports all of torch.compile, which takes a second

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named: dict[str, Any] = {}
        double_args: list[Any] = []
        double_kwargs = dict(kwargs or {})
        for position, argument in enumerate(func._schema.arguments):
            if position < len(args):
                value = args[position]
            elif argument.name in double_kwargs:
                value = double_kwargs[argument.name]
            else:
                if argument.has_default_value():
                    named[argument.name] = argument.default_value
                continue
            if argument.alias_info is None or not argument.alias_info.is_write:
                value = _to_double(value)
            named[argument.name] = value
            if position < len(args):
                double_args.append(value)
            else:
                double_kwargs[argument.name] = value
        result = expectation(func, named, double_args, double_kwargs)
        if result is not NotImplemented:
            return result
        try:
            return func(*double_args, **double_kwargs)
        except RuntimeError:
            # This call raises again if the precision was not the cause.
            result = func(*_to_single(double_args), **_to_single(double_kwargs))
            self.single_precision.add(str(func))
            return _to_double(result)


def _to_double(value: Any) -> Any:
    """Convert floating-point tensors and dtypes in an argument to float64."""
    if isinstance(value, Tensor):
        return value.double() if value.dtype in BELOW_DOUBLE else value
    if isinstance(value, torch.dtype):
        return torch.float64 if value in BELOW_DOUBLE else value
    if isinstance(value, list | tuple):
        return type(value)(_to_double(each) for each in value)
    return value


def _to_single(value: Any) -> Any:
    """Convert float64 tensors and dtypes in an argument to float32."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype == torch.float64 else value
    if isinstance(value, torch.dtype):
        return torch.float32 if value == torch.float64 else value
    if isinstance(value, dict):
        return {key: _to_single(each) for key, each in value.items()}
    return type(value)(map(_to_single, value)) if isinstance(value, list | tuple) else value


def to_double_precision(model: nn.Module) -> None:
    """Convert a model's tensors to float64, including tensors in plain attributes."""
    model.double()
    for module in model.modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                vars(module)[name] = map_tensors(value, _to_double)
