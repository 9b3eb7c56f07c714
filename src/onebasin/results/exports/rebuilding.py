"""From a mask, over a seed's weights or a backbone's, to a model: they are drawn or read, and those kept are left."""

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

MOST_BYTES = 1 << 30


class ModelFileError(ValueError):
    """A file that holds no model, or another than it must; the message names the file and what is wrong."""


def load(path: str | Path, model: nn.Module | None = None, backbone: str | Path | None = None) -> nn.Module:
    """Return the model in a seed + mask file, ready to use: on the CPU, in evaluation mode.

    model: of the file's architecture, for a model that is the user's own code, which no file can bring along; it is
    copied, its weights do not matter. backbone: the trained weights that the file's mask is of, where it is of any: a
    .safetensors file, or the directory of a finished run. Raises `ModelFileError` when the file is damaged, something
    else, or of another model or backbone; `OSError` when it cannot be read.
    """
    path = Path(path)
    if path.stat().st_size > MOST_BYTES:
        raise ModelFileError(f"{path}: has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are read")
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
    """Return the model that a file describes, as `load`; `WireError` or `PretrainedError` when it cannot be.

    backbone: with the digest that the file names.
    """
    described = file.description
    if described.backbone and backbone is None:
        raise WireError(
            f"its mask is of the weights with the digest {described.backbone}: give them as load(path, backbone=...)"
        )
    with torch.random.fork_rng(devices=[]):
        model = _build(described, backbone) if model is None else copy.deepcopy(model).cpu()
        _check_layers(described.layers, model, backbone is not None)
        if backbone is not None:
            backbone.into(model)
        try:
            drawn = described.parametrization.apply(copy.deepcopy(model), file.seed, 0)
        except ValueError as error:
            raise WireError(f"its model cannot be masked: {error}") from None
    kept = {}
    for name, layer in drawn.named_modules():
        if is_parametrized(layer, "weight"):
            random: Tensor = layer.parametrizations.weight[0].weights
            kept[_weight_of(name)] = random * torch.from_numpy(file.masks[_weight_of(name)])
    values = _read_beside(model, described, file.buffers)
    model.load_state_dict(fold(drawn).state_dict() | kept | values)
    return model.eval()


def masked_layers(model: nn.Module, backbone: bool = False) -> dict[str, Shape]:
    """Return the weights that a mask covers, name and shape, in the order in which they are drawn.

    backbone: whether they are those of a trained network, whose last layer is not masked.
    """
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, Maskable)]
    return {_weight_of(name): tuple(layer.weight.shape) for name, layer in (layers[:-1] if backbone else layers)}


def write_beside(model: nn.Module, described: Description) -> bytes:
    """Return what a file has beside the masks: buffers; with a backbone also the last layer."""
    buffers = buffers_of(model)
    beside = Exact(Layout.of(buffers)).encode(buffers)
    return beside + _head_coding(model).body(_head(model), CodingContext()) if described.backbone else beside


def _read_beside(model: nn.Module, described: Description, data: bytes) -> Tensors:
    buffers = Exact(Layout.of(buffers_of(model)))
    if not described.backbone:
        return buffers.decode(data)
    head = _head_coding(model).receive(data[buffers.most_bytes :], CodingContext())
    return buffers.decode(data[: buffers.most_bytes]) | head


def head_as_written(model: nn.Module, described: Description) -> Tensors:
    """Return the parameters of a model's last layer as a reader will have them; none where it is masked."""
    return _head_coding(model).send(_head(model), CodingContext())[1] if described.backbone else {}


def _head_coding(model: nn.Module) -> Codec:
    return make_codec(LAST_LAYER, Layout.of(_head(model)))


def _head(model: nn.Module) -> Tensors:
    head = head_of(model)
    return {name: each.detach() for name, each in model.named_parameters() if name.rpartition(".")[0] == head}


def _weight_of(module: str) -> str:
    return f"{module}.weight" if module else "weight"


def _build(described: Description, backbone: Pretrained | None) -> nn.Module:
    if not described.built_in:
        raise WireError(f"its model is {described.model!r}, which is not onebasin's: give it as load(path, model=...)")
    try:
        with _no_larger_than(described, backbone):
            model = built_in(described.model, described.input, described.classes, described.options)
    except WireError:
        raise
    except Exception as error:  # the options are the file's, and may be anything
        reason = str(error).partition("\n")[0]
        raise WireError(f"its model cannot be built: {type(error).__name__}: {reason}") from None
    return model


@contextmanager
def _no_larger_than(described: Description, backbone: Pretrained | None) -> Iterator[None]:
    """Stop the building of a model as soon as it has more than belongs to the layers that are listed.

    A layer registers its parameters before it writes to them, so that no memory is taken up until then.
    """
    # A weight has a bias at most, and a normalisation's scale and shift: none larger than itself.
    tensors, values = 4 * len(described.layers), 4 * described.weights
    if backbone is not None:  # whose last layer is not listed
        tensors, values = tensors + 2, 4 * sum(tensor.numel() for tensor in backbone.tensors.values())

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal tensors, values
        tensors, values = tensors - 1, values - parameter.numel()
        if tensors < 0 or values < 0:
            raise WireError(f"its model {described.model!r} is larger than the layers that it lists")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _check_layers(listed: dict[str, Shape], model: nn.Module, backbone: bool) -> None:
    """Refuse a model with other layers than the file lists; name the first that differs."""
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
