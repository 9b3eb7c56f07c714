"""Layers that can be fitted in closed form: what their inputs and outputs are, row by row."""

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
    """Return the linear and convolutional layers, and the normalisations with a weight for each neuron.

    Layers that share a parameter with another, or compute it from others, are left out.
    """
    return {
        name: module
        for name, module in unshared(model).items()
        if (weight := module._parameters.get("weight")) is not None
        and (is_linear(module) or (isinstance(module, Norm) and weight.ndim == 1))
    }


def unshared(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules whose own parameters are no other's."""
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
    """Whether its output is a linear map of its input, unfolded."""
    plain = isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd) and module.padding_mode == "zeros"
    return isinstance(module, nn.Linear) or plain


def channel_dim(module: nn.Module, output: Tensor) -> int:
    """The axis of an output that neurons stand on."""
    if isinstance(module, nn.Linear | nn.LayerNorm | nn.RMSNorm):
        return output.ndim - 1
    return output.ndim - 1 - _spatial(module, output)


def _spatial(module: nn.Module, output: Tensor) -> int:
    return len(module.kernel_size) if isinstance(module, _ConvNd) else max(output.ndim - 2, 0)


def rows_of(output: Tensor, dim: int) -> Tensor:
    """[examples and positions, channels]."""
    return output.movedim(dim, -1).flatten(0, -2)


@dataclass(frozen=True)
class Rows:
    """Some rows of a layer's output: examples and positions, drawn once and for all models."""

    indices: Tensor
    positions: int

    @classmethod
    def drawn(cls, output: Tensor, dim: int, most: int, draws: torch.Generator) -> Rows:
        """Draw `most` rows, or all if there are no more."""
        total = output.numel() // max(output.shape[dim], 1)
        return cls(_some(total, most, draws), max(total // max(len(output), 1), 1))

    @classmethod
    def whole(cls, output: Tensor, most: int, draws: torch.Generator) -> Rows:
        """Draw whole sequences of an output [sequences, steps, channels], one or as many as make up `most` rows."""
        sequences, steps = output.shape[:2]
        chosen = _some(sequences, max(1, most // max(steps, 1)), draws)
        return cls((chosen[:, None] * steps + torch.arange(steps)).flatten(), steps)

    @property
    def examples(self) -> Tensor:
        """Those of which whole sequences were drawn."""
        return self.indices[:: self.positions] // self.positions

    def of(self, output: Tensor, dim: int) -> Tensor:
        """[rows, channels] of an output."""
        return rows_of(output, dim)[self.indices]

    def patches(self, module: nn.Module, inputs: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """For runs of rows: which, and what the layer multiplies there with its weight, [rows, groups, values]."""
        if isinstance(module, nn.Linear):
            yield slice(None), inputs.flatten(0, -2)[self.indices].unsqueeze(1)
            return
        assert isinstance(module, _ConvNd)
        step = max(1, (1 << 24) // max(module.weight[0].numel() * module.groups * self.positions, 1))
        for begin in range(0, len(inputs), step):
            inside = (self.indices >= begin * self.positions) & (self.indices < (begin + step) * self.positions)
            if bool(inside.any()):
                where = inside.nonzero().flatten()
                unfolded = unfold(module, inputs[begin : begin + step])
                rows = unfolded[self.indices[where] - begin * self.positions]
                yield slice(int(where[0]), int(where[-1]) + 1), rows


def _some(total: int, most: int, draws: torch.Generator) -> Tensor:
    """All numbers below the total, or `most` of them, drawn, in order."""
    return torch.arange(total) if total <= most else torch.randperm(total, generator=draws)[:most].sort().values


def unfold(module: _ConvNd, inputs: Tensor) -> Tensor:
    """[examples and positions, groups, values of one group's kernel]: rows that the kernels are multiplied with."""
    spatial = len(module.kernel_size)
    padding = module.padding
    if isinstance(padding, str):
        reach = [
            d * (k - 1) if padding == "same" else 0 for d, k in zip(module.dilation, module.kernel_size, strict=True)
        ]
        edges = [(total // 2, total - total // 2) for total in reach]
    else:
        edges = [(int(width), int(width)) for width in padding]
    strided = F.pad(inputs, [width for pair in reversed(edges) for width in pair])
    for axis in range(spatial):
        extent = module.dilation[axis] * (module.kernel_size[axis] - 1) + 1
        strided = strided.unfold(2 + axis, extent, module.stride[axis])[..., :: module.dilation[axis]]
    examples, channels = strided.shape[:2]
    places, kernel = strided.shape[2 : 2 + spatial], strided.shape[2 + spatial :]
    grouped = strided.reshape(examples, module.groups, channels // module.groups, *places, *kernel)
    order = [0, *range(3, 3 + spatial), 1, 2, *range(3 + spatial, 3 + 2 * spatial)]
    return grouped.permute(order).reshape(examples * math.prod(places), module.groups, -1)
