"""x"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from onebasin.symmetry.expectations import expectation
from onebasin.symmetry.nested_tensors import map_tensors

NARROW = (torch.float16, torch.bfloat16, torch.float32)


class DoublePrecision(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Compute in float64 whatever a model asks for, and replace random draws by their expectation.

    Operations that do not exist in float64 are computed in float32; their names are added to `single`.
    """

    def __init__(self, single: set[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.single = single

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first operation imports all of torch.compile, which takes a second

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named: dict[str, Any] = {}
        wide: list[Any] = []
        given = dict(kwargs or {})
        for place, argument in enumerate(func._schema.arguments):
            if place < len(args):
                value = args[place]
            elif argument.name in given:
                value = given[argument.name]
            else:
                if argument.has_default_value():
                    named[argument.name] = argument.default_value
                continue
            if argument.alias_info is None or not argument.alias_info.is_write:
                value = _widened(value)
            named[argument.name] = value
            if place < len(args):
                wide.append(value)
            else:
                given[argument.name] = value
        result = expectation(func, named, wide, given)
        if result is not NotImplemented:
            return result
        try:
            return func(*wide, **given)
        except RuntimeError:
            result = func(*_narrowed(wide), **_narrowed(given))  # raises again if precision was not the reason
            self.single.add(str(func))
            return _widened(result)


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.dtype in NARROW else value
    if isinstance(value, torch.dtype):
        return torch.float64 if value in NARROW else value
    if isinstance(value, list | tuple):
        return type(value)(_widened(each) for each in value)
    return value


def _narrowed(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype == torch.float64 else value
    if isinstance(value, torch.dtype):
        return torch.float32 if value == torch.float64 else value
    if isinstance(value, dict):
        return {key: _narrowed(each) for key, each in value.items()}
    return type(value)(map(_narrowed, value)) if isinstance(value, list | tuple) else value


def widen(model: nn.Module) -> None:
    """Turn a model's tensors into float64, those in plain attributes too."""
    model.double()
    for module in model.modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                vars(module)[name] = map_tensors(value, _widened)
