"""From a seed and a mask to a model: the weights are drawn again, and those that the mask keeps are left."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.utils.parametrize import is_parametrized

from onebasin.exports.seed_mask import Description, SeedMask, Shape
from onebasin.tasks.models import built_in
from onebasin.training.parametrization import fold, parametrize
from onebasin.training.supermask import MASKED
from onebasin.training.weights import buffers_of
from onebasin.updates.dense import Exact
from onebasin.wire.error import WireError
from onebasin.wire.layout import Layout

MOST_BYTES = 1 << 30


class ModelFileError(ValueError):
    """A file that holds no model, or another than it must; the message names the file and what is wrong."""


def load(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """Return the model in a seed + mask file, ready to use: on the CPU, in evaluation mode.

    model: of the file's architecture, for a model that is the user's own code, which no file can bring along; it is
    copied, its weights do not matter. Raises `ModelFileError` when the file is damaged, something else, or of another
    model; `OSError` when it cannot be read.
    """
    path = Path(path)
    if path.stat().st_size > MOST_BYTES:
        raise ModelFileError(f"{path}: has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are read")
    try:
        return rebuild(SeedMask.from_bytes(path.read_bytes()), model)
    except WireError as error:
        raise ModelFileError(f"{path}: {error}") from None


def rebuild(file: SeedMask, model: nn.Module | None = None) -> nn.Module:
    """Return the model that a file describes, as `load`; `WireError` when it cannot be."""
    described = file.description
    with torch.random.fork_rng(devices=[]):
        model = _build(described) if model is None else copy.deepcopy(model).cpu()
        _check_layers(described.layers, model)
        try:
            drawn = parametrize(copy.deepcopy(model), described.supermask, file.seed)
        except ValueError as error:
            raise WireError(f"its model cannot be masked: {error}") from None
    kept = {}
    for name, layer in drawn.named_modules():
        if is_parametrized(layer, "weight"):
            random: Tensor = layer.parametrizations.weight[0].weights
            kept[_weight_of(name)] = random * torch.from_numpy(file.masks[_weight_of(name)])
    buffers = buffers_of(model)
    values = Exact(Layout.of(buffers)).decode(file.buffers)
    model.load_state_dict(fold(drawn).state_dict() | kept | values)
    return model.eval()


def masked_layers(model: nn.Module) -> dict[str, Shape]:
    """Return the weights that a supermask covers, name and shape, in the order in which they are drawn."""
    layers = ((name, module) for name, module in model.named_modules() if isinstance(module, MASKED))
    return {_weight_of(name): tuple(layer.weight.shape) for name, layer in layers}


def _weight_of(module: str) -> str:
    return f"{module}.weight" if module else "weight"


def _build(described: Description) -> nn.Module:
    if not described.built_in:
        raise WireError(f"its model is {described.model!r}, which is not onebasin's: give it as load(path, model=...)")
    try:
        with _no_larger_than(described):
            model = built_in(described.model, described.input, described.classes, described.options)
    except WireError:
        raise
    except Exception as error:  # the options are the file's, and may be anything
        reason = str(error).partition("\n")[0]
        raise WireError(f"its model cannot be built: {type(error).__name__}: {reason}") from None
    return model


@contextmanager
def _no_larger_than(described: Description) -> Iterator[None]:
    """Stop the building of a model as soon as it has more than belongs to the layers that are listed.

    A layer registers its parameters before it writes to them, so that no memory is taken up until then.
    """
    # A weight has a bias at most, and a normalisation's scale and shift: none larger than itself.
    tensors, values = 4 * len(described.layers), 4 * described.weights

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


def _check_layers(listed: dict[str, Shape], model: nn.Module) -> None:
    """Refuse a model with other layers than the file lists; name the first that differs."""
    found = masked_layers(model)
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
