"""Build models by name from a seed, and check that they fit the data set."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from onebasin.core.references import FactoryError, build, resolve
from onebasin.learning.data.examples import Dataset
from onebasin.learning.models.options import ModelError
from onebasin.networks.evaluation_mode import evaluation_mode

__all__ = ["MODELS", "ModelError", "build_model", "built_in"]

MODELS: Mapping[str, str] = MappingProxyType(
    {
        "mlp": "perceptron: hidden=[64], norm=none|batch",
        "lenet5": "LeNet5, 61,706 parameters on 28x28: width=1",
        "cnn4": "4 convolutions and a linear layer, 0.39M on 28x28: norm=batch|group|none, groups=4",
        "conv2": "CONV-2 of the lottery tickets: bias=true",
        "conv4": "CONV-4 of the lottery tickets, 1.93M on 28x28: bias=true",
        "conv6": "CONV-6 of the lottery tickets, 2.26M on 32x32: bias=true",
        "vgg16": "VGG16 with three linear layers, 15.3M on 32x32: norm=batch|group|none, groups=32",
        "resnet20": "ResNet-20, 0.27M: norm=batch|group, groups=4, width=1.0, shortcut=A|B",
        "har-cnn": "1-D convolutions over motion signals, 29k: width=64",
        "gru": "character GRU, 186k: embedding=64, hidden=128, layers=2",
        "transformer": "causal transformer, 424k: layers=2, heads=4, width=128",
    }
)

_BUILDERS: Mapping[str, str] = MappingProxyType(
    {
        "mlp": "perceptron:mlp",
        "lenet5": "convolutional:lenet5",
        "cnn4": "convolutional:cnn4",
        "conv2": "convolutional:conv2",
        "conv4": "convolutional:conv4",
        "conv6": "convolutional:conv6",
        "vgg16": "convolutional:vgg16",
        "resnet20": "residual:resnet20",
        "har-cnn": "convolutional:har_cnn",
        "gru": "recurrent:gru",
        "transformer": "attention:transformer",
    }
)
"""Name -> the file here and the function that build a model; a file is imported when its model is asked for."""


def build_model(name: str, dataset: Dataset, seed: int, **options: Any) -> nn.Module:
    """Build a model by name, or call a user's "package.module:factory" with the data set and the options.

    Equal seeds give equal weights, and the state of torch's global generator is restored. To check the model, one
    training example is passed through it in evaluation mode; the output must be [1, classes], or
    [1, length, classes] for sequences.
    seed: 0 to 2**63 - 1.
    options: keyword arguments of the builder or of the factory.
    Raises ModelError for an unknown name or option, a value out of range, or an output that does not fit the data.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ModelError(f"seed: {seed!r}; expected a whole number from 0 to 2**63 - 1")
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also seed accelerators, whose generators fork_rng does not restore here.
        torch.default_generator.manual_seed(seed)
        if ":" in name:
            model = _from_factory(name, dataset, options)
        else:
            model = built_in(name, tuple(dataset.train.inputs.shape[1:]), dataset.classes, options)
        _check_output(name, model, dataset)
    return model


def built_in(name: str, shape: tuple[int, ...], classes: int, options: Mapping[str, Any]) -> nn.Module:
    """Build a built-in model; its weights are drawn from torch's global generator.

    name: a key of `MODELS`.
    shape: the shape of one input, without the batch dimension.
    options: keyword arguments of the builder.
    Raises ModelError for an unknown name or option, or a value out of range.
    """
    if name not in _BUILDERS:
        raise ModelError(
            f"model: {name!r} is unknown; expected one of {', '.join(_BUILDERS)}, or package.module:factory"
        )
    builder: Callable[..., nn.Module] = resolve(f"{__name__}.{_BUILDERS[name]}")
    known = [key for key, p in inspect.signature(builder).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for key in options:
        if key not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ModelError(f"model {name!r} has no option {key!r}; {takes}")
    return builder(shape, classes, **options)


def _from_factory(reference: str, dataset: Dataset, options: Mapping[str, Any]) -> nn.Module:
    try:
        model = build(reference, dataset, **options)
    except FactoryError as error:
        raise ModelError(f"model: {error}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"model: {reference!r} returned a {type(model).__name__}; expected a torch.nn.Module")
    return model


def _check_output(name: str, model: nn.Module, dataset: Dataset) -> None:
    example = dataset.train.inputs[:1]
    expected = [1, example.shape[1], dataset.classes] if dataset.sequence else [1, dataset.classes]
    try:
        with evaluation_mode(model), torch.no_grad():
            output = model(example)
    except Exception as error:  # a user's model may raise anything
        raise ModelError(
            f"model {name!r} cannot take {dataset.name}'s inputs {list(example.shape)}: {type(error).__name__}: {error}"
        ) from error
    found = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if found != expected:
        raise ModelError(f"model {name!r} on {dataset.name}: output {found}; expected {expected}")
