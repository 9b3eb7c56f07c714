"""Conversion of a seed + mask file to a model.

The weights are drawn from the seed, or read from a backbone; those that the mask does not keep are set to zero.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.utils.parametrize import is_parametrized

from onebasin.codecs.codec import Codec
from onebasin.codecs.context import CodingContext
from onebasin.codecs.dense import Exact
from onebasin.codecs.named_codecs import make_codec
from onebasin.core.layout import Layout, Tensors
from onebasin.learning.masks.layers import Maskable
from onebasin.learning.models import built_in
from onebasin.learning.parametrization import fold
from onebasin.learning.pretrained import Pretrained, PretrainedError, head_of, read_pretrained
from onebasin.networks.weights import buffers_of
from onebasin.results.exports.seed_mask import LAST_LAYER, Description, SeedMask, Shape
from onebasin.wire.error import WireError

MAX_FILE_BYTES = 1 << 30


class ModelFileError(ValueError):
    """A file without a valid model, or with another model than expected; the message names the file and the reason."""


def load(path: str | Path, model: nn.Module | None = None, backbone: str | Path | None = None) -> nn.Module:
    """Return the model in a seed + mask file, on the CPU and in evaluation mode.

    model: a model of the file's architecture. It is needed if the architecture is the user's own code, since a file
    contains no code. It is copied, and its weights are not used.
    backbone: the trained weights, if the file's mask is over a backbone: a .safetensors file, or the directory of a
    finished run.
    Raises ModelFileError when the file is damaged, is no seed + mask file, or belongs to another model or backbone;
    OSError when it cannot be read.
    """
    path = Path(path)
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ModelFileError(f"{path}: has {path.stat().st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
    try:
        file = SeedMask.from_bytes(path.read_bytes())
        if backbone is None:
            return rebuild(file, model)
        if not file.description.backbone:
            raise WireError(f"its mask is of random weights, and backbone={str(backbone)!r} has no use")
        return rebuild(file, model, read_pretrained(backbone, file.description.backbone))
    except (WireError, PretrainedError) as error:
        raise ModelFileError(f"{path}: {error}") from None


def rebuild(file: SeedMask, model: nn.Module | None = None, backbone: Pretrained | None = None) -> nn.Module:
    """Return the model that a file describes; `model` is as in `load`.

    backbone: the trained weights with the digest that the file names, if its mask is over a backbone.
    Raises WireError or PretrainedError when the model cannot be built.
    """
    description = file.description
    if description.backbone and backbone is None:
        raise WireError(
            f"its mask is of the weights with the digest {description.backbone}: give them as load(path, backbone=...)"
        )
    with torch.random.fork_rng(devices=[]):
        model = _build(description, backbone) if model is None else copy.deepcopy(model).cpu()
        _check_layers(description.layers, model, backbone is not None)
        if backbone is not None:
            backbone.into(model)
        try:
            drawn = description.parametrization.apply(copy.deepcopy(model), file.seed, 0)
        except ValueError as error:
            raise WireError(f"its model cannot be masked: {error}") from None
    masked = {}
    for name, layer in drawn.named_modules():
        if is_parametrized(layer, "weight"):
            weights: Tensor = layer.parametrizations.weight[0].weights
            masked[_weight_name(name)] = weights * torch.from_numpy(file.masks[_weight_name(name)])
    unmasked = _decode_unmasked(model, description, file.buffers)
    model.load_state_dict(fold(drawn).state_dict() | masked | unmasked)
    return model.eval()


def masked_layers(model: nn.Module, backbone: bool = False) -> dict[str, Shape]:
    """Return the names and shapes of the masked weights, in the order in which random weights are drawn.

    backbone: whether the weights are those of a trained network, whose last layer is not masked.
    """
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, Maskable)]
    return {_weight_name(name): tuple(layer.weight.shape) for name, layer in (layers[:-1] if backbone else layers)}


def encode_unmasked(model: nn.Module, description: Description) -> bytes:
    """Encode the tensors that a file has besides the masks: the buffers and, with a backbone, the last layer."""
    buffers = buffers_of(model)
    encoded = Exact(Layout.of(buffers)).encode(buffers)
    return encoded + _head_codec(model).body(_head(model), CodingContext()) if description.backbone else encoded


def _decode_unmasked(model: nn.Module, description: Description, data: bytes) -> Tensors:
    """Decode what `encode_unmasked` returned. Raises WireError when `data` does not fit the model."""
    codec = Exact(Layout.of(buffers_of(model)))
    if not description.backbone:
        return codec.decode(data)
    # The length of encoded buffers depends on their layout alone.
    head = _head_codec(model).receive(data[codec.most_bytes :], CodingContext())
    return codec.decode(data[: codec.most_bytes]) | head


def decoded_head(model: nn.Module, description: Description) -> Tensors:
    """Return the parameters of the model's last layer as a reader will decode them; none without a backbone."""
    return _head_codec(model).send(_head(model), CodingContext())[1] if description.backbone else {}


def _head_codec(model: nn.Module) -> Codec:
    return make_codec(LAST_LAYER, Layout.of(_head(model)))


def _head(model: nn.Module) -> Tensors:
    head = head_of(model)
    return {name: value.detach() for name, value in model.named_parameters() if name.rpartition(".")[0] == head}


def _weight_name(module: str) -> str:
    return f"{module}.weight" if module else "weight"


def _build(description: Description, backbone: Pretrained | None) -> nn.Module:
    if not description.built_in:
        raise WireError(
            f"its model is {description.model!r}, which is not onebasin's: give it as load(path, model=...)"
        )
    try:
        with _size_limit(description, backbone):
            model = built_in(description.model, description.input, description.classes, description.options)
    except WireError:
        raise
    except Exception as error:  # the options come from the file, and may have any value
        reason = str(error).partition("\n")[0]
        raise WireError(f"its model cannot be built: {type(error).__name__}: {reason}") from None
    return model


@contextmanager
def _size_limit(description: Description, backbone: Pretrained | None) -> Iterator[None]:
    """Stop the construction of a model as soon as it has more parameters than the listed layers account for.

    Raises WireError. A layer registers its parameters before it initialises them, so the operating system has not yet
    committed memory to parameters that are refused.
    """
    # A layer has a weight, at most a bias, and a normalisation's scale and shift: four tensors, none larger than the
    # weight.
    tensors, values = 4 * len(description.layers), 4 * description.weights
    if backbone is not None:  # the last layer of a backbone is not listed
        tensors, values = tensors + 2, 4 * sum(tensor.numel() for tensor in backbone.tensors.values())

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal tensors, values
        tensors, values = tensors - 1, values - parameter.numel()
        if tensors < 0 or values < 0:
            raise WireError(f"its model {description.model!r} is larger than the layers that it lists")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _check_layers(listed: dict[str, Shape], model: nn.Module, backbone: bool) -> None:
    """Raise WireError, which names the first difference, unless the model has the layers that the file lists."""
    found = masked_layers(model, backbone)
    for name, shape in listed.items():
        if name not in found:
            raise WireError(f"it has a mask of {name} {list(shape)}; the model has no such layer")
        if found[name] != shape:
            raise WireError(f"its mask of {name} is {list(shape)}; the model's layer is {list(found[name])}")
        if model.get_parameter(name).dtype != torch.float32:
            raise WireError(f"the model's {name} is {model.get_parameter(name).dtype}; it must be torch.float32")
    for name, shape in found.items():
        if name not in listed:
            raise WireError(f"it has no mask of {name} {list(shape)}, which the model has")
    if list(found) != list(listed):
        raise WireError(f"its layers are in the order {list(listed)}; the model's are in {list(found)}")
