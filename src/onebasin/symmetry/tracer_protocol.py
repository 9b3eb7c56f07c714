"""What the rules of operations need from the tracer, so that they do not depend on it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from onebasin.symmetry.algebra import Axes
from onebasin.symmetry.couplings import Couplings

CONSTANT, STATE, INTEGER_INPUT, FLOAT_INPUT = 0, 1, 2, 4
"""What the values of a tensor depend on, as bits: parameters and buffers, integer inputs, floating-point inputs."""


class TracerProtocol(Protocol):
    """The axes of all tensors in a traced run, and the constraints between them."""

    @property
    def couplings(self) -> Couplings:
        """The constraints on nested permutations that the trace has collected."""

    @property
    def module(self) -> str:
        """The path of the module that is running; "" for the model itself."""

    def depends_on(self, tensor: Tensor) -> int:
        """What the values of a tensor depend on, as bits; CONSTANT for no parameter and no input."""

    def view_axes(self, tensor: Tensor) -> Axes:
        """The axes of a tensor, which it shares with every other view of the same memory."""

    def operand_axes(self, tensor: Tensor) -> Axes:
        """The axes of a tensor as an operand: those of the view, or for a constant new ones that fit its values."""
