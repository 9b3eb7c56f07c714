"""The features of a batch: the inputs of a model's last linear or convolution layer."""

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
    """Collect, in every forward pass, the inputs of the model's last layer.

    `PretrainedError` for a model without a linear or convolution layer.
    """
    kept: list[Tensor] = []
    layer = model.get_submodule(head_of(model))
    handle = layer.register_forward_pre_hook(lambda _, arguments: kept.append(arguments[0]))
    try:
        yield kept
    finally:
        handle.remove()


def features_of(model: nn.Module, inputs: Tensor, weights: Tensors | None = None) -> Tensor:
    """Return the inputs of the model's last layer on a batch; of a sequence model at every position.

    weights: parameters by name that are used in the place of the model's own. The model's buffers do not change: in
    training, BatchNorm's statistics are those of the pass that the loss is taken of. `PretrainedError` for a model
    without a linear or convolution layer.
    """
    buffers = clone(dict(model.named_buffers()))
    with features_captured(model) as kept:
        stateless_call(model, {**buffers, **(weights or {})}, (inputs,))
    return kept[-1]
