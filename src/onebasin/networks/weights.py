"""Access to the weights of a module by name."""

import torch
from torch import nn

from onebasin.core.layout import Tensors


def parameters_of(module: nn.Module) -> Tensors:
    """Return the trainable parameters by name, without a copy. Tied weights appear once, under their first name.

    Parameters that require no gradient are determined by the model's code and seed, and no message contains them.
    """
    return {name: parameter.detach() for name, parameter in module.named_parameters() if parameter.requires_grad}


def buffers_of(module: nn.Module) -> Tensors:
    """Return the buffers that are part of the state_dict, without a copy."""
    persistent = module.state_dict().keys()
    return {name: buffer.detach() for name, buffer in module.named_buffers() if name in persistent}


def transient_buffers_of(module: nn.Module) -> Tensors:
    """Return the buffers that are not part of the state_dict, without a copy. They must not pass between clients."""
    saved = buffers_of(module)
    return {name: buffer for name, buffer in module.named_buffers() if name not in saved}


def copy_into(targets: Tensors, values: Tensors) -> None:
    """Overwrite each target tensor in place with the value of the same name."""
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(values[name])


def clone(tensors: Tensors) -> Tensors:
    """Return copies of tensors that own their memory."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
