"""The tracer: follows a model's ATen operations and keeps, for every tensor, the expressions of its axes.

Composite modules arrive here decomposed, whatever module, function or method called them. Tensors are known by their
memory, so views and in-place writes need no care of their own: two tensors that share memory share atoms.

A tensor that depends on neither parameters nor inputs is a *constant*. It keeps its values, so at each use those axes
along which it does not vary are free, and the others are rigid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from onebasin.symmetry.algebra import UNIT, Axes, Axis, Cause, concatenated, fresh, length, rigidify, unify
from onebasin.symmetry.call import Call, Rule, tensors_in
from onebasin.symmetry.couplings import Couplings
from onebasin.symmetry.errors import TraceError
from onebasin.symmetry.expectations import expectation
from onebasin.symmetry.rules import creates, find_rule
from onebasin.symmetry.tracer_protocol import CONSTANT, FLOAT_INPUT, INTEGER_INPUT

MOST_RUNS = 8
"""A constant that changes more often along an axis makes the axis rigid; else its runs of equal values are free."""

Geometry = tuple[int, tuple[int, ...], tuple[int, ...], int]


@dataclass
class Memory:
    """A storage: what its values depend on, the views of it that are known, and the first of them."""

    root: Tensor
    depends: int
    views: dict[Geometry, Axes] = field(default_factory=dict)
    when_used: list[tuple[Axis, Cause]] = field(default_factory=list)
    patterns: dict[tuple[Geometry, int], list[list[int]]] = field(default_factory=dict)


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follow operations. `decisions` are the answers that the model gets when it asks for the truth of a tensor.

    Answers beyond those given are the true ones, and are appended. `unsaved`: the addresses of the model's tensors that
    are not in its state. Raises TraceError.
    """

    def __init__(
        self, couplings: Couplings, decisions: Sequence[bool] = (), unsaved: frozenset[int] = frozenset()
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.unsaved = unsaved
        self.couplings = couplings
        self.given = list(decisions)
        self.decisions: list[bool] = []
        self.deciders: list[tuple[str, int]] = []
        self.notes: list[str] = []
        self.modules: list[str] = []
        self.used: set[int] = set()
        self.written: set[int] = set()
        self.work = 0
        self.steps: list[tuple[str, str, object]] = []
        self.operation = ""
        self._memories: dict[int, Memory] = {}
        self._kept: list[Tensor] = []

    @property
    def module(self) -> str:
        """The path of the module that is running."""
        return self.modules[-1] if self.modules else ""

    def register(self, tensor: Tensor, axes: Axes, depends: int) -> None:
        """Make a parameter, buffer or input known."""
        memory = self._memories.get(address_of(tensor))
        if memory is None:
            memory = self._memories[address_of(tensor)] = Memory(tensor, depends)
        memory.depends |= depends
        memory.views[_geometry(tensor)] = axes
        self.couplings.observe(axes)

    def memory(self, tensor: Tensor) -> Memory:
        """The storage of a tensor; one that was never seen belongs to a constant."""
        address = address_of(tensor)
        if address not in self._memories:
            memory = self._memories[address] = Memory(tensor, CONSTANT)
            memory.views[_geometry(tensor)] = [fresh(size) for size in tensor.shape]
        return self._memories[address]

    def depends_on(self, tensor: Tensor) -> int:
        """What the values of a tensor depend on, as bits; CONSTANT for no parameter and no input."""
        return self.memory(tensor).depends

    def view_axes(self, tensor: Tensor) -> Axes:
        """The axes that a tensor shares with all that share its memory."""
        memory = self.memory(tensor)
        geometry = _geometry(tensor)
        if geometry not in memory.views:
            axes = _same_elements(memory, geometry)
            if axes is not None:
                memory.views[geometry] = axes
                return axes
            cause = Cause("a view of it was made where the trace could not see", self.operation, self.module)
            for known in memory.views.values():
                for axis in known:
                    rigidify(axis, cause)
            memory.views[geometry] = [fresh(size, cause) for size in tensor.shape]
        return memory.views[geometry]

    def operand_axes(self, tensor: Tensor) -> Axes:
        """The axes of a tensor where it is used: linked ones, or for a constant new ones that fit its values."""
        memory = self.memory(tensor)
        for axis, cause in memory.when_used:
            rigidify(axis, cause)
        if memory.depends != CONSTANT:
            return self.view_axes(tensor)
        key = (_geometry(tensor), 0 if tensor.is_inference() else tensor._version)
        if key not in memory.patterns:
            memory.patterns[key] = [_runs(tensor, dim) for dim in range(tensor.ndim)]
        axes: Axes = []
        cause = Cause("multiplied by or added to constants that differ along it", self.operation, self.module)
        for size, runs in zip(tensor.shape, memory.patterns[key], strict=True):
            if len(runs) > MOST_RUNS or 1 < size == len(runs):
                axes.append(fresh(size, cause))
            else:
                pieces = [fresh(run) for run in runs]
                axes.append(concatenated(pieces))
                if len(pieces) > 1:
                    self.couplings.distinct_parts.append(tuple(pieces))
        return axes

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first operation imports all of torch.compile, which takes a second

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self.operation = str(func)
        call = Call(self, func, args, kwargs)
        self.used.update(map(address_of, call.inputs))
        self.written.update(map(address_of, call.written))
        if call.name == "_local_scalar_dense":
            return self._answer(call, func(*args))
        if torch.Tag.inplace_view in func.tags:
            call.before = {id(tensor): self.view_axes(tensor) for tensor in call.written}
        for tensor in call.written:
            if call.depends != CONSTANT:
                self._lose_constancy(tensor, call.depends)
        result = expectation(func, call.arguments, args, kwargs)
        rule = find_rule(func)
        if rule is None and call.depends != CONSTANT and not call.written and not creates(func):
            decomposed = _decomposition(func)
            if decomposed is not None:
                with self:
                    return decomposed(*args, **kwargs)
        if result is NotImplemented:
            result = func(*args, **kwargs)
        call.outputs = list(tensors_in(result))
        self.work += call.multiplications()
        if call.depends != CONSTANT:
            self.steps.append((str(func), self.module, call.get("training")))
        if call.name.startswith(("empty", "new_empty")):
            for tensor in call.outputs:
                tensor.zero_()
        self._record(call, rule)
        return result if result is None or call.outputs or not call.inputs else self._answer(call, result)

    def _record(self, call: Call, rule: Rule | None) -> None:
        """Give the outputs of an operation their axes."""
        aliased = {address_of(tensor) for tensor in call.inputs}
        views = [address_of(tensor) in aliased for tensor in call.outputs]
        if creates(call.func) or (call.depends == CONSTANT and not any(views)):
            for tensor in call.outputs:
                self._remember(tensor, [fresh(size) for size in tensor.shape], CONSTANT, anew=not call.written)
            return
        if call.depends == CONSTANT and call.written and not call.before:
            return
        if call.outputs and not call.written and not any(tensor.numel() for tensor in call.outputs):
            results: Sequence[Axes] = [[call.rigid(size, "empty") for size in tensor.shape] for tensor in call.outputs]
        elif rule is None:
            results = self._not_understood(call)
        else:
            results = self._by_rule(call, rule)
        for tensor, axes, is_view in zip(call.outputs, results, views, strict=True):
            self._remember(tensor, axes, call.depends, anew=not is_view)
        if not call.outputs and call.written:
            self._not_understood(call)
        if call.when_used:
            self.memory(call.outputs[-1]).when_used.extend(call.when_used)

    def _by_rule(self, call: Call, rule: Rule) -> Sequence[Axes]:
        """What a rule says; what it fails at is not understood."""
        try:
            results = rule(call)
            for tensor, axes in zip(call.outputs, results, strict=True):
                if [length(axis) for axis in axes] != list(tensor.shape):
                    raise ValueError(f"{[length(axis) for axis in axes]} for {list(tensor.shape)}")
        except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
            return self._not_understood(call, f"its rule failed: {type(error).__name__}: {error}")
        return results

    def _remember(self, tensor: Tensor, axes: Axes, depends: int, anew: bool) -> None:
        self._kept.append(tensor)  # an address means something only as long as its tensor lives
        address, geometry = address_of(tensor), _geometry(tensor)
        if anew or address not in self._memories:
            self._memories[address] = Memory(tensor, depends, {geometry: axes})
        else:
            memory = self._memories[address]
            memory.depends |= depends
            known = memory.views.setdefault(geometry, axes)
            if known is not axes:
                for old, new in zip(known, axes, strict=True):
                    unify(old, new, Cause("written to memory of another structure", self.operation, self.module))
        if depends != CONSTANT:
            self.couplings.observe(axes)

    def _lose_constancy(self, tensor: Tensor, depends: int) -> None:
        """Something that is no constant is about to be written to the memory of a tensor."""
        memory = self.memory(tensor)
        self.view_axes(tensor)
        if address_of(tensor) in self.unsaved:
            cause = Cause("written to a buffer that is not saved with the model", self.operation, self.module)
            for axes in memory.views.values():
                for axis in axes:
                    rigidify(axis, cause)
        if memory.depends == CONSTANT:
            root = memory.root
            cause = Cause("written among constants that differ along it", self.operation, self.module)
            for dim, axis in enumerate(memory.views[_geometry(root)]):
                if len(_runs(root, dim)) > 1:
                    rigidify(axis, cause)
        memory.depends |= depends

    def _not_understood(self, call: Call, reason: str = "passed an operation that is not understood") -> list[Axes]:
        for tensor in call.inputs:
            call.fix(call.axes_of(tensor), reason)
        return [[call.rigid(size, reason) for size in tensor.shape] for tensor in call.outputs]

    def look(self, tensor: Tensor, how: str) -> None:
        """All values of a tensor leave it. Raises TraceError if they are numbers computed from the input."""
        depends = self.memory(tensor).depends
        for axis in self.operand_axes(tensor):
            rigidify(axis, Cause("its values were looked at", how, self.module))
        if depends & (INTEGER_INPUT | FLOAT_INPUT):
            self._report(tensor.is_floating_point(), f"the values of a tensor of shape {list(tensor.shape)}", how)

    def _report(self, computed: bool, what: str, how: str) -> None:
        place = self.module or "the model"
        if computed:
            raise TraceError(
                f"data-dependent computation: {place} takes {what} out of a tensor ({how}), where it cannot be "
                "followed; compute with tensors instead"
            )
        self.notes.append(f"{place} looked at {what} ({how}): followed for that alone")

    def _answer(self, call: Call, value: Any) -> Any:
        """A value leaves the tensors: a number to compute with, or the answer to a question."""
        for tensor in call.inputs:
            call.fix(self.operand_axes(tensor), "its values were looked at")
        if call.depends & (INTEGER_INPUT | FLOAT_INPUT) == 0:
            return value
        if isinstance(value, bool):
            step = len(self.decisions)
            if step < len(self.given):
                value = self.given[step]
            self.decisions.append(value)
            asked = f"{call.func} in {self.module or 'the model'}"
            self.deciders.append((asked, sum(site == asked for site, _ in self.deciders)))
        else:
            self._report(not isinstance(value, int), f"the number {value!r}", str(call.func))
        return value


class Windows(TorchFunctionMode):
    """Watch the methods by which values leave tensors without an operation."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.tolist, Tensor.numpy, Tensor.__array__) and isinstance(args[0], Tensor):
            self.tracer.look(args[0], func.__name__)
        return func(*args, **(kwargs or {}))


def address_of(tensor: Tensor) -> int:
    """What identifies the memory of a tensor, as long as the tensor lives."""
    return int(tensor.untyped_storage()._cdata)


def _geometry(tensor: Tensor) -> Geometry:
    return int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()), tensor.element_size()


def _same_elements(memory: Memory, geometry: Geometry) -> Axes | None:
    """The axes of a view with the same elements as a known one, in another order of dimensions."""
    offset, shape, strides, width = geometry
    wanted = [(size, stride) for size, stride in zip(shape, strides, strict=True) if size != 1]
    for (start, sizes, steps, bits), axes in memory.views.items():
        known = {(size, step): axis for size, step, axis in zip(sizes, steps, axes, strict=True) if size != 1}
        extents = [size for size in sizes if size != 1]
        if (start, bits) == (offset, width) and len(known) == len(extents) and sorted(known) == sorted(wanted):
            return [UNIT if size == 1 else known[size, stride] for size, stride in zip(shape, strides, strict=True)]
    return None


def _runs(tensor: Tensor, dim: int) -> list[int]:
    """Lengths of the runs of equal slices along a dimension. Values that equal nothing, like NaN, end a run."""
    size = tensor.shape[dim]
    if size < 2 or not tensor.numel():
        return [size]
    slices = tensor.detach().movedim(dim, 0).reshape(size, -1)
    changes = (slices[1:] != slices[:-1]).any(1).nonzero().flatten().tolist()
    ends = [*(change + 1 for change in changes), size]
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _decomposition(func: OpOverload) -> Callable[..., Any] | None:
    """PyTorch's own description of an operation by simpler ones."""
    if func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        return func.decompose
    return torch._decomp.decomposition_table.get(func)
