"""Execution of a copy of a model without side effects outside it."""

from __future__ import annotations

import copy
import math
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from onebasin.symmetry.errors import SymmetryError
from onebasin.symmetry.nested_tensors import HALF

SEED = 0


def copy_model(model: nn.Module) -> nn.Module:
    """A copy of a model on the CPU that shares no memory with it; half precision becomes float32.

    Raises SymmetryError for values that are no module, models that cannot be copied, and weights that are not dense,
    not initialised, without data, or not finite.
    """
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
        model_copy = copy.deepcopy(model, memo)
    except Exception as error:
        raise SymmetryError(f"model: cannot be copied: {type(error).__name__}: {error}") from error
    model_copy = model_copy.to("cpu")
    has_half = any(tensor.dtype in HALF for tensor in [*model_copy.parameters(), *model_copy.buffers()])
    return model_copy.float() if has_half else model_copy


def state_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model's state_dict themselves, not copies."""
    return {k: v for k, v in model.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}


@contextmanager
def plain_execution() -> Iterator[None]:
    """Run models by plain instead of fused operations; then restore PyTorch's settings and all random generators."""
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
        if "torch._dynamo" in sys.modules:  # it is not imported only for this, because the import takes a second
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        torch._C._set_mkldnn_enabled(False)
        torch.backends.mha.set_fastpath_enabled(False)
        torch.default_generator.manual_seed(SEED)
        random.seed(SEED)
        np.random.seed(SEED)
        yield
