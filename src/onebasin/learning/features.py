"""Features of a batch: the inputs of a model's last linear or convolution layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from onebasin.core.layout import Tensors
from onebasin.learning.pretrained import head_of
from onebasin.networks.functional_call import stateless_call
from onebasin.networks.weights import clone


@contextmanager
def features_captured(model: nn.Module) -> Iterator[list[Tensor]]:
    """Record the inputs of the model's last layer in every forward pass within the context.

    Yields a list, to which each forward pass appends one tensor [n, ...].
    Raises PretrainedError if the model has no linear or convolution layer.
    """
    captured: list[Tensor] = []
    layer = model.get_submodule(head_of(model))
    handle = layer.register_forward_pre_hook(lambda _, arguments: captured.append(arguments[0]))
    try:
        yield captured
    finally:
        handle.remove()


def features_of(model: nn.Module, inputs: Tensor, weights: Tensors | None = None) -> Tensor:
    """Return the inputs of the model's last layer on a batch: [n, d], or [n, length, d] for sequences.

    weights: parameters by name that are used in the place of the model's own. The model's buffers do not change: in
    training, BatchNorm's statistics are those of the pass that the loss is taken of. `PretrainedError` for a model
    without a linear or convolution layer.
    """
    buffers = clone(dict(model.named_buffers()))
    with features_captured(model) as kept:
        stateless_call(model, {**buffers, **(weights or {})}, (inputs,))
    return kept[-1]
