"""Running a model with other weights than its own, and watching what its modules return."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from onebasin.alignment.models import AlignmentError, State
from onebasin.networks.evaluation_mode import evaluation_mode
from onebasin.networks.functional_call import stateless_call
from onebasin.symmetry.nested_tensors import read_examples, tensors_of

Watcher = Callable[[str, nn.Module, Tensor], Any]
"""Told a module's name, the module, and a tensor. What it returns after a call takes the place of the output."""


@torch.no_grad()
def forward(model: nn.Module, state: State, inputs: object) -> Tensor:
    """Return what the model computes with the weights of `state`, in evaluation mode; the model is left as it was.

    inputs: a tensor, a tuple of arguments or a dict of keyword arguments. The first tensor of several is returned.
    Errors: `AlignmentError` when the model does not take the inputs.
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


def one_example(inputs: object) -> Any:
    """Return the inputs as one example of arguments; `AlignmentError` for anything else."""
    try:
        (example,) = read_examples(inputs)
    except ValueError as error:
        raise AlignmentError(f"inputs: {error}") from None
    return example


@contextmanager
def watched(
    model: nn.Module, names: Collection[str], before: Watcher | None = None, after: Watcher | None = None
) -> Iterator[None]:
    """Show the first tensor that each of these modules takes, or returns, the first time it is called in a forward."""
    called: set[tuple[str, bool]] = set()
    handles = []

    def hook(name: str, tell: Watcher, late: bool) -> Callable[..., Any]:
        def show(module: nn.Module, args: Any, kwargs: Any, returned: Any = None) -> Any:
            if (name, late) in called or not (tensors := tensors_of(returned if late else (args, kwargs))):
                return None
            called.add((name, late))
            told = tell(name, module, tensors[0])
            return told if late else None

        return show

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
