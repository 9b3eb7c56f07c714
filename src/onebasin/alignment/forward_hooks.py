"""Forward passes with other weights than the model's own, and hooks on the inputs and outputs of its modules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from onebasin.alignment.models import AlignmentError, StateDict
from onebasin.networks.evaluation_mode import evaluation_mode
from onebasin.networks.functional_call import stateless_call
from onebasin.symmetry.nested_tensors import Example, read_examples, tensors_of

ModuleHook = Callable[[str, nn.Module, Tensor], Any]
"""Called with a module's name, the module and a tensor. After a call, a result other than None replaces the output."""


@torch.no_grad()
def forward(model: nn.Module, state: StateDict, inputs: object) -> Tensor:
    """Return the output of a model with the weights in `state`, in evaluation mode. The model stays unchanged.

    inputs: a tensor, a tuple of arguments or a dict of keyword arguments. If the model returns several tensors, the
    first is returned.
    Errors: `AlignmentError` if the model does not take the inputs or returns no tensor.
    """
    example = one_example(inputs)
    with evaluation_mode(model):
        try:
            returned = stateless_call(model, state, example.args, example.kwargs)
        except Exception as error:  # a user's model may raise anything
            raise AlignmentError(f"the model does not take the inputs: {type(error).__name__}: {error}") from error
    found = tensors_of(returned)
    if not found:
        raise AlignmentError(f"the model returned {type(returned).__name__} without a tensor in it")
    return found[0]


def one_example(inputs: object) -> Example:
    """Return the inputs as one example of a model's arguments. Errors: `AlignmentError` for anything else."""
    try:
        (example,) = read_examples(inputs)
    except ValueError as error:
        raise AlignmentError(f"inputs: {error}") from None
    return example


@contextmanager
def module_hooks(
    model: nn.Module, names: Collection[str], before: ModuleHook | None = None, after: ModuleHook | None = None
) -> Iterator[None]:
    """Call `before` with the first input tensor of each named module, and `after` with its first output tensor.

    Each is called only the first time that a module runs within the scope.
    """
    finished: set[tuple[str, bool]] = set()
    handles = []

    def hook(name: str, callback: ModuleHook, is_output: bool) -> Callable[..., Any]:
        def call_once(module: nn.Module, args: Any, kwargs: Any, returned: Any = None) -> Any:
            if (name, is_output) in finished or not (tensors := tensors_of(returned if is_output else (args, kwargs))):
                return None
            finished.add((name, is_output))
            replacement = callback(name, module, tensors[0])
            return replacement if is_output else None

        return call_once

    modules = dict(model.named_modules())
    for name in names:
        if before is not None:
            handles.append(modules[name].register_forward_pre_hook(hook(name, before, False), with_kwargs=True))
        if after is not None:
            handles.append(modules[name].register_forward_hook(hook(name, after, True), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
