"""Moving weights in and out of a module by name."""

import torch
from torch import nn

from onebasin.core.layout import Tensors


def parameters_of(module: nn.Module) -> Tensors:
    """Return what is trained, without copying; tied weights once, under their first name.

    Parameters that ask for no gradient follow from the model's code and seed, and belong to no message.
    """
    return {name: parameter.detach() for name, parameter in module.named_parameters() if parameter.requires_grad}


def buffers_of(module: nn.Module) -> Tensors:
    """Return the buffers that belong to the state dict, without copying."""
    persistent = module.state_dict().keys()
    return {name: buffer.detach() for name, buffer in module.named_buffers() if name in persistent}


def transient_buffers_of(module: nn.Module) -> Tensors:
    """Return the buffers that are not in the state dict, without copying: no client may see another's."""
    kept = buffers_of(module)
    return {name: buffer for name, buffer in module.named_buffers() if name not in kept}


def copy_into(targets: Tensors, values: Tensors) -> None:
    """Overwrite each target with the value of its name."""
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(values[name])


def clone(tensors: Tensors) -> Tensors:
    """Return copies that own their memory."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
