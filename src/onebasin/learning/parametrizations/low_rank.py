"""Weights as Hadamard products of two low-rank matrices, which can have full rank with few parameters.

Hyeon-Woo, Ye-Bin, Oh: FedPara. ICLR 2022 (arXiv 2108.06098). A matrix is (X1 Y1') * (X2 Y2') with factors of rank R;
its own rank can be R^2 (proposition 1). The kernel of a convolution is the Hadamard product of two Tucker products
T x X x Y (proposition 3).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from onebasin.core.seeds import generator
from onebasin.learning.parametrization import Parametrization


class LowRank(Parametrization):
    """Each layer's weights are a Hadamard product of two low-rank matrices, whose factors are trained.

    gamma: the rank of the factors, from the smallest that allows weights of full rank (0) to the largest that saves
    parameters (1).
    """

    kind: Literal["low-rank"] = "low-rank"
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.1

    def apply(self, model: nn.Module, seed: int, common_seed: int) -> nn.Module:
        factorise(model, self.gamma, generator(seed, "factors"))
        return model


class HadamardOfMatrices(nn.Module):
    """A matrix [out, in] from X1, X2 [out, rank] and Y1, Y2 [in, rank] (proposition 1)."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    def forward(self, x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> Tensor:
        return (x1 @ y1.T) * (x2 @ y2.T)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Return zeros in the shapes of the factors."""
        out, inputs = weight.shape
        shapes = [(out, self._rank), (inputs, self._rank)] * 2
        return tuple(weight.new_zeros(shape) for shape in shapes)


class HadamardOfKernels(nn.Module):
    """A kernel [out, in, ...] from T [rank, rank, ...], X [out, rank], Y [in, rank], two of each (proposition 3)."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    def forward(self, t1: Tensor, x1: Tensor, y1: Tensor, t2: Tensor, x2: Tensor, y2: Tensor) -> Tensor:
        return torch.einsum("rs...,or,is->oi...", t1, x1, y1) * torch.einsum("rs...,or,is->oi...", t2, x2, y2)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Return zeros in the shapes of the factors."""
        out, inputs, *kernel = weight.shape
        shapes = [(self._rank, self._rank, *kernel), (out, self._rank), (inputs, self._rank)] * 2
        return tuple(weight.new_zeros(shape) for shape in shapes)


def factorise(model: nn.Module, gamma: float, generator: torch.Generator) -> None:
    """Replace the weight of each layer by factors, in place, where that saves parameters.

    The factors are random, and scaled so that their product has the standard deviation of the weight.
    gamma: as in `LowRank`. generator: draws the factors.
    """
    for module in list(model.modules()):
        if not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            continue
        rank = rank_of(tuple(module.weight.shape), gamma)
        if rank is None:
            continue
        deviation = module.weight.detach().std(correction=0)
        product = (HadamardOfMatrices if module.weight.dim() == 2 else HadamardOfKernels)(rank)
        register_parametrization(module, "weight", product)
        factors = [factor for name, factor in module.named_parameters() if "original" in name]
        for factor in factors:
            nn.init.normal_(factor, generator=generator)
        scale = (deviation / module.weight.detach().std(correction=0)) ** (1 / len(factors))
        with torch.no_grad():
            for factor in factors:
                factor.mul_(scale)


def rank_of(shape: tuple[int, ...], gamma: float) -> int | None:
    """Return the rank of the factors for a weight of a shape; None if no sufficient rank saves parameters."""
    smallest = math.ceil(math.sqrt(min(shape[:2])))
    largest = smallest - 1
    while _parameters(shape, largest + 1) < math.prod(shape):
        largest += 1
    return None if largest < smallest else round((1 - gamma) * smallest + gamma * largest)


def _parameters(shape: tuple[int, ...], rank: int) -> int:
    """Return the number of values of the factors."""
    out, inputs, *kernel = shape
    core = rank * rank * math.prod(kernel) if kernel else 0
    return 2 * (rank * (out + inputs) + core)
