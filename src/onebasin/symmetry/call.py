"""One ATen operation, in the form that the rules work with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor
from torch._ops import OpOverload

from onebasin.symmetry.algebra import Axes, Axis, Cause, fresh, rigidify, unify
from onebasin.symmetry.couplings import Couplings
from onebasin.symmetry.tracer_protocol import CONSTANT, TracerProtocol

Rule = Callable[["Call"], Sequence[Axes]]


class Call:
    """One operation: its arguments by name, its outputs, and what rules need to express constraints on axes.

    written: the arguments that the operation writes to. depends: what its inputs depend on, as bits.
    axes_before: by id, the axes of arguments before an operation that changes the shape of its argument.
    rigid_when_used: axes that become rigid once the last output, which has indices along them, is used.
    """

    def __init__(self, tracer: TracerProtocol, func: OpOverload, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self.tracer = tracer
        self.func = func
        self.name = func.overloadpacket.__name__
        self.arguments: dict[str, Any] = {}
        self.written: list[Tensor] = []
        for position, argument in enumerate(func._schema.arguments):
            if position < len(args):
                value = args[position]
            elif argument.name in kwargs:
                value = kwargs[argument.name]
            elif argument.has_default_value():
                value = argument.default_value
            else:
                continue
            self.arguments[argument.name] = value
            if argument.alias_info is not None and argument.alias_info.is_write:
                self.written.extend(tensors_in(value))
        self.inputs: list[Tensor] = list(tensors_in(self.arguments))
        self.depends = 0
        for tensor in self.inputs:
            self.depends |= tracer.depends_on(tensor)
        self.outputs: list[Tensor] = []
        self.axes_before: dict[int, Axes] = {}
        self.rigid_when_used: list[tuple[Axis, Cause]] = []

    @property
    def couplings(self) -> Couplings:
        """The constraints on nested permutations that the trace has collected."""
        return self.tracer.couplings

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str) -> Any:
        """An argument, or None if this overload has no argument of that name."""
        return self.arguments.get(name)

    def axes(self, name: str) -> Axes:
        """The axes of a tensor argument."""
        return self.axes_of(self.arguments[name])

    def axes_of(self, tensor: Tensor) -> Axes:
        """The axes of a tensor argument. If all arguments are constants, the view keeps its axes for later writes."""
        if id(tensor) in self.axes_before:
            return self.axes_before[id(tensor)]
        return self.tracer.view_axes(tensor) if self.depends == CONSTANT else self.tracer.operand_axes(tensor)

    def is_zero(self, name: str) -> bool:
        """Whether a tensor argument is a constant of zeros."""
        tensor: Tensor = self.arguments[name]
        return self.tracer.depends_on(tensor) == CONSTANT and not bool(tensor.any())

    def cause(self, reason: str) -> Cause:
        """The cause of a rigid axis in this operation."""
        return Cause(reason, str(self.func), self.tracer.module)

    def unify(self, first: Axis, second: Axis) -> None:
        """Require the same permutation on two axes."""
        unify(first, second, self.cause("structures that do not fit each other"))

    def rigid(self, size: int, reason: str) -> Axis:
        """A new axis that keeps its order."""
        return fresh(size, self.cause(reason))

    def fix(self, axes: Iterable[Axis], reason: str) -> None:
        """Make some axes rigid."""
        cause = self.cause(reason)
        for axis in axes:
            rigidify(axis, cause)

    def multiplications(self) -> int:
        """The approximate number of multiplications of the operation."""
        if not self.outputs:
            return 0
        count = self.outputs[0].numel()
        if self.name == "convolution":
            weight: Tensor = self["weight"]
            positions = self["input"].numel() if self["transposed"] else count
            return positions * weight[0].numel()
        for name in ("mat1", "batch1", "self") if self.name in ("mm", "bmm", "addmm", "baddbmm") else ():
            if name in self.arguments:
                return count * int(self.arguments[name].shape[-1])
        return count

    @property
    def shape(self) -> list[int]:
        """The shape of the first output."""
        return list(self.outputs[0].shape)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in the arguments or results of an operation."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)
