"""Running a copy of a model so that nothing outside of it changes, and in double precision."""

from __future__ import annotations

import copy
import math
import random
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from onebasin.symmetry.chance import expectation
from onebasin.symmetry.errors import SymmetryError

SEED = 0
HALF = (torch.float16, torch.bfloat16)
NARROW = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class Example:
    """Arguments of a model: tensors, also in tuples, lists, mappings and dataclasses; not in other objects."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def map(self, change: Any) -> Example:
        """The example with a function applied to each tensor."""
        return Example(
            tuple(_mapped(arg, change) for arg in self.args), {k: _mapped(v, change) for k, v in self.kwargs.items()}
        )

    def tensors(self) -> list[Tensor]:
        """Every tensor in it."""
        found: list[Tensor] = []

        def note(tensor: Tensor) -> Tensor:
            found.append(tensor)
            return tensor

        self.map(note)
        return found


def examples(inputs: object) -> list[Example]:
    """Read `example_inputs`: one example, or a list of several. Raises SymmetryError for anything else."""
    if isinstance(inputs, list):
        if not inputs:
            raise SymmetryError("example_inputs: an empty list; expected at least one example")
        return [each for entry in inputs for each in examples(entry if not isinstance(entry, list) else (entry,))]
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
    return [example.map(_plain)]


def _plain(tensor: Tensor) -> Tensor:
    """A copy on the CPU, in single precision if it was half."""
    if tensor.layout != torch.strided:
        raise SymmetryError(f"example_inputs: a tensor of layout {tensor.layout}; expected dense ones")
    tensor = tensor.detach().to("cpu", copy=True)
    return tensor.float() if tensor.dtype in HALF else tensor


def duplicate(model: nn.Module) -> nn.Module:
    """A copy of a model on the CPU that shares no memory with it. Raises SymmetryError."""
    if not isinstance(model, nn.Module):
        raise SymmetryError(f"model: {type(model).__name__}; expected a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise SymmetryError("model: a ScriptModule; expected the Python module that it was made of")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.layout != torch.strided:
            raise SymmetryError(f"{name}: of layout {tensor.layout}; expected a dense tensor")
        if nn.parameter.is_lazy(tensor):
            raise SymmetryError(f"{name}: not initialised; call the lazy model once before")
        if tensor.is_meta:
            raise SymmetryError(f"{name}: on the meta device, without values")
        if (
            tensor.is_floating_point()
            and tensor.numel()
            and not all(map(math.isfinite, map(float, tensor.detach().aminmax())))
        ):
            raise SymmetryError(f"{name}: has values that are NaN or infinite; expected finite weights")
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        twin = copy.deepcopy(model, memo)
    except Exception as error:
        raise SymmetryError(f"model: cannot be copied: {type(error).__name__}: {error}") from error
    twin = twin.to("cpu")
    half = any(tensor.dtype in HALF for tensor in [*twin.parameters(), *twin.buffers()])
    return twin.float() if half else twin


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model's state_dict, themselves."""
    return {k: v for k, v in model.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}


@contextmanager
def plain_execution() -> Iterator[None]:
    """Run models by plain operations, not fused ones, and leave PyTorch's settings and all generators as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    mkldnn, fastpath = torch._C._get_mkldnn_enabled(), torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(random.setstate, python)
        stack.callback(np.random.set_state, numpy)
        stack.callback(torch._C._set_mkldnn_enabled, mkldnn)
        stack.callback(torch.backends.mha.set_fastpath_enabled, fastpath)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel([SDPBackend.MATH]))
        if "torch._dynamo" in sys.modules:  # not imported for this: it takes a second
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        torch._C._set_mkldnn_enabled(False)
        torch.backends.mha.set_fastpath_enabled(False)
        torch.default_generator.manual_seed(SEED)
        random.seed(SEED)
        np.random.seed(SEED)
        yield


def outputs_of(value: object) -> list[Tensor]:
    """The tensors that a model returned, in tuples, lists, mappings and dataclasses; not those in other objects."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for each in value.values() for tensor in outputs_of(each)]
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in outputs_of(each)]
    if is_dataclass(value) and not isinstance(value, type):
        return [tensor for each in fields(value) for tensor in outputs_of(getattr(value, each.name))]
    return []


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
                vars(module)[name] = _mapped(value, _widened)


def _mapped(value: Any, change: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(_mapped(each, change) for each in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(each, change) for each in value))
    if isinstance(value, MutableMapping):
        mapping = copy.copy(value)
        for key, each in value.items():
            mapping[key] = _mapped(each, change)
        return mapping
    if is_dataclass(value) and not isinstance(value, type):
        record = copy.copy(value)
        for field in fields(value):
            object.__setattr__(record, field.name, _mapped(getattr(value, field.name), change))
        return record
    return value
