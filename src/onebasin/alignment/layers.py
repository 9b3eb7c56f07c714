"""Layers that can be fitted in closed form, with their inputs and outputs as rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

Norm = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def fitted_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the linear and convolutional layers, and the normalisation layers with one weight for each neuron.

    Layers that share a parameter with another, or compute it from other tensors, are left out.
    """
    return {
        name: module
        for name, module in layers_with_own_parameters(model).items()
        if (weight := module._parameters.get("weight")) is not None
        and (is_linear(module) or (isinstance(module, Norm) and weight.ndim == 1))
    }


def layers_with_own_parameters(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that share none of their own parameters with another module."""
    uses: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    return {
        name: module
        for name, module in model.named_modules()
        if all(uses[id(p)] == 1 for p in module._parameters.values() if p is not None)
    }


def is_linear(module: nn.Module) -> bool:
    """Whether a layer's output is a linear map of its input, or of the patches of its input."""
    plain = isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd) and module.padding_mode == "zeros"
    return isinstance(module, nn.Linear) or plain


def channel_dim(module: nn.Module, output: Tensor) -> int:
    """The dimension of an output along which its neurons are."""
    if isinstance(module, nn.Linear | nn.LayerNorm | nn.RMSNorm):
        return output.ndim - 1
    return output.ndim - 1 - _spatial(module, output)


def _spatial(module: nn.Module, output: Tensor) -> int:
    """The number of spatial dimensions of a layer's output."""
    return len(module.kernel_size) if isinstance(module, _ConvNd) else max(output.ndim - 2, 0)


def rows_of(output: Tensor, dim: int) -> Tensor:
    """An output as rows: [examples and positions, channels]."""
    return output.movedim(dim, -1).flatten(0, -2)


@dataclass(frozen=True)
class Rows:
    """Sampled rows of a layer's output, the same for all models.

    indices: int64 [rows], into examples and positions flattened in this order. positions: positions of each example.
    """

    indices: Tensor
    positions: int

    @classmethod
    def sample(cls, output: Tensor, dim: int, max_rows: int, rng: torch.Generator) -> Rows:
        """Sample `max_rows` rows of an output, or take all if it has fewer. dim: its channel dimension."""
        total = output.numel() // max(output.shape[dim], 1)
        return cls(_sample_indices(total, max_rows, rng), max(total // max(len(output), 1), 1))

    @classmethod
    def sample_sequences(cls, output: Tensor, max_rows: int, rng: torch.Generator) -> Rows:
        """Sample whole sequences of an output [sequences, steps, channels].

        The number of sequences is the largest that fits into `max_rows` rows, but at least one.
        """
        sequences, steps = output.shape[:2]
        chosen = _sample_indices(sequences, max(1, max_rows // max(steps, 1)), rng)
        return cls((chosen[:, None] * steps + torch.arange(steps)).flatten(), steps)

    @property
    def examples(self) -> Tensor:
        """The indices of the examples whose sequences were sampled."""
        return self.indices[:: self.positions] // self.positions

    def select(self, output: Tensor, dim: int) -> Tensor:
        """The sampled rows of an output: [rows, channels]."""
        return rows_of(output, dim)[self.indices]

    def patches(self, module: nn.Module, inputs: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of the sampled rows, with the values that the layer multiplies by its weight.

        inputs: of the layer. The values are [rows, groups, inputs of one output].
        """
        if isinstance(module, nn.Linear):
            yield slice(None), inputs.flatten(0, -2)[self.indices].unsqueeze(1)
            return
        assert isinstance(module, _ConvNd)
        batch_size = max(1, (1 << 24) // max(module.weight[0].numel() * module.groups * self.positions, 1))
        for begin in range(0, len(inputs), batch_size):
            inside = (self.indices >= begin * self.positions) & (self.indices < (begin + batch_size) * self.positions)
            if bool(inside.any()):
                where = inside.nonzero().flatten()
                unfolded = unfold(module, inputs[begin : begin + batch_size])
                rows = unfolded[self.indices[where] - begin * self.positions]
                yield slice(int(where[0]), int(where[-1]) + 1), rows


def _sample_indices(total: int, max_rows: int, rng: torch.Generator) -> Tensor:
    """All indices below the total in order, or a sorted random sample of `max_rows` of them."""
    return torch.arange(total) if total <= max_rows else torch.randperm(total, generator=rng)[:max_rows].sort().values


def unfold(module: _ConvNd, inputs: Tensor) -> Tensor:
    """The patches that a convolution multiplies by its kernels: [examples and positions, groups, kernel values]."""
    spatial = len(module.kernel_size)
    padding = module.padding
    if isinstance(padding, str):
        total_padding = [
            d * (k - 1) if padding == "same" else 0 for d, k in zip(module.dilation, module.kernel_size, strict=True)
        ]
        paddings = [(total // 2, total - total // 2) for total in total_padding]
    else:
        paddings = [(int(width), int(width)) for width in padding]
    strided = F.pad(inputs, [width for pair in reversed(paddings) for width in pair])
    for axis in range(spatial):
        extent = module.dilation[axis] * (module.kernel_size[axis] - 1) + 1
        strided = strided.unfold(2 + axis, extent, module.stride[axis])[..., :: module.dilation[axis]]
    examples, channels = strided.shape[:2]
    positions, kernel = strided.shape[2 : 2 + spatial], strided.shape[2 + spatial :]
    grouped = strided.reshape(examples, module.groups, channels // module.groups, *positions, *kernel)
    order = [0, *range(3, 3 + spatial), 1, 2, *range(3 + spatial, 3 + 2 * spatial)]
    return grouped.permute(order).reshape(examples * math.prod(positions), module.groups, -1)
