"""The tracer: follows the ATen operations of a model and keeps the axes of every tensor.

Composite modules are decomposed before they reach the tracer, whichever module, function or method called them. The
tracer identifies tensors by their memory, so views and in-place writes need no special treatment: tensors that share
memory share atoms.

A tensor that depends on neither parameters nor inputs is a *constant*. The tracer keeps the values of constants: at
each use, the axes along which the values do not vary are free, and the others are rigid.
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

MAX_RUNS = 8
"""If a constant has at most this many runs of equal values along an axis, each run is free; otherwise the axis is
rigid."""

Geometry = tuple[int, tuple[int, ...], tuple[int, ...], int]
"""Storage offset, shape, strides and element size of a view."""


@dataclass
class Storage:
    """The memory of tensors: what its values depend on, its known views with their axes, and the first of these views.

    rigid_when_used: axes that become rigid once the values are used. run_lengths: by view of a constant and version of
    its values, the lengths of the runs of equal values along each axis.
    """

    first_view: Tensor
    depends: int
    views: dict[Geometry, Axes] = field(default_factory=dict)
    rigid_when_used: list[tuple[Axis, Cause]] = field(default_factory=list)
    run_lengths: dict[tuple[Geometry, int], list[list[int]]] = field(default_factory=dict)


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follow the operations of one run. Raises TraceError.

    decisions: the outcomes of the first data-dependent branches. Later branches have their true outcome, which is
    appended to `decisions`; `decision_sites` has the operation and module of each. unsaved_storages: storages of the
    model's tensors that are not in its state_dict.
    """

    def __init__(
        self, couplings: Couplings, decisions: Sequence[bool] = (), unsaved_storages: frozenset[int] = frozenset()
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.unsaved_storages = unsaved_storages
        self.couplings = couplings
        self.forced_decisions = list(decisions)
        self.decisions: list[bool] = []
        self.decision_sites: list[tuple[str, int]] = []
        self.notes: list[str] = []
        self.modules: list[str] = []
        self.used_storages: set[int] = set()
        self.written_storages: set[int] = set()
        self.multiplications = 0
        self.steps: list[tuple[str, str, object]] = []
        self.operation = ""
        self._storages: dict[int, Storage] = {}
        self._kept_alive: list[Tensor] = []

    @property
    def module(self) -> str:
        """The path of the module that is running; "" for the model itself."""
        return self.modules[-1] if self.modules else ""

    def register(self, tensor: Tensor, axes: Axes, depends: int) -> None:
        """Set the axes of a parameter, buffer or input."""
        storage = self._storages.get(storage_id(tensor))
        if storage is None:
            storage = self._storages[storage_id(tensor)] = Storage(tensor, depends)
        storage.depends |= depends
        storage.views[_geometry(tensor)] = axes
        self.couplings.observe(axes)

    def storage(self, tensor: Tensor) -> Storage:
        """The storage of a tensor. A storage that is not known yet belongs to a constant."""
        address = storage_id(tensor)
        if address not in self._storages:
            storage = self._storages[address] = Storage(tensor, CONSTANT)
            storage.views[_geometry(tensor)] = [fresh(size) for size in tensor.shape]
        return self._storages[address]

    def depends_on(self, tensor: Tensor) -> int:
        """What the values of a tensor depend on, as bits; CONSTANT for no parameter and no input."""
        return self.storage(tensor).depends

    def view_axes(self, tensor: Tensor) -> Axes:
        """The axes of a tensor, which it shares with every other view of the same memory."""
        storage = self.storage(tensor)
        geometry = _geometry(tensor)
        if geometry not in storage.views:
            axes = _reordered_view(storage, geometry)
            if axes is not None:
                storage.views[geometry] = axes
                return axes
            cause = Cause("a view of it was made where the trace could not see", self.operation, self.module)
            for known_axes in storage.views.values():
                for axis in known_axes:
                    rigidify(axis, cause)
            storage.views[geometry] = [fresh(size, cause) for size in tensor.shape]
        return storage.views[geometry]

    def operand_axes(self, tensor: Tensor) -> Axes:
        """The axes of a tensor as an operand: those of the view, or for a constant new ones that fit its values."""
        storage = self.storage(tensor)
        for axis, cause in storage.rigid_when_used:
            rigidify(axis, cause)
        if storage.depends != CONSTANT:
            return self.view_axes(tensor)
        key = (_geometry(tensor), 0 if tensor.is_inference() else tensor._version)
        if key not in storage.run_lengths:
            storage.run_lengths[key] = [_run_lengths(tensor, dim) for dim in range(tensor.ndim)]
        axes: Axes = []
        cause = Cause("multiplied by or added to constants that differ along it", self.operation, self.module)
        for size, runs in zip(tensor.shape, storage.run_lengths[key], strict=True):
            if len(runs) > MAX_RUNS or 1 < size == len(runs):
                axes.append(fresh(size, cause))
            else:
                pieces = [fresh(run) for run in runs]
                axes.append(concatenated(pieces))
                if len(pieces) > 1:
                    self.couplings.distinct_parts.append(tuple(pieces))
        return axes

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise the first operation imports all of torch.compile, which takes a second

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self.operation = str(func)
        call = Call(self, func, args, kwargs)
        self.used_storages.update(map(storage_id, call.inputs))
        self.written_storages.update(map(storage_id, call.written))
        if call.name == "_local_scalar_dense":
            return self._read_scalar(call, func(*args))
        if torch.Tag.inplace_view in func.tags:
            call.axes_before = {id(tensor): self.view_axes(tensor) for tensor in call.written}
        for tensor in call.written:
            if call.depends != CONSTANT:
                self._mark_dependent(tensor, call.depends)
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
        self.multiplications += call.multiplications()
        if call.depends != CONSTANT:
            self.steps.append((str(func), self.module, call.get("training")))
        if call.name.startswith(("empty", "new_empty")):
            for tensor in call.outputs:
                tensor.zero_()
        self._record_outputs(call, rule)
        return result if result is None or call.outputs or not call.inputs else self._read_scalar(call, result)

    def _record_outputs(self, call: Call, rule: Rule | None) -> None:
        """Set the axes of an operation's outputs."""
        aliased = {storage_id(tensor) for tensor in call.inputs}
        views = [storage_id(tensor) in aliased for tensor in call.outputs]
        if creates(call.func) or (call.depends == CONSTANT and not any(views)):
            for tensor in call.outputs:
                self._set_axes(tensor, [fresh(size) for size in tensor.shape], CONSTANT, new_storage=not call.written)
            return
        if call.depends == CONSTANT and call.written and not call.axes_before:
            return
        if call.outputs and not call.written and not any(tensor.numel() for tensor in call.outputs):
            results: Sequence[Axes] = [[call.rigid(size, "empty") for size in tensor.shape] for tensor in call.outputs]
        elif rule is None:
            results = self._fix_unsupported(call)
        else:
            results = self._apply_rule(call, rule)
        for tensor, axes, is_view in zip(call.outputs, results, views, strict=True):
            self._set_axes(tensor, axes, call.depends, new_storage=not is_view)
        if not call.outputs and call.written:
            self._fix_unsupported(call)
        if call.rigid_when_used:
            self.storage(call.outputs[-1]).rigid_when_used.extend(call.rigid_when_used)

    def _apply_rule(self, call: Call, rule: Rule) -> Sequence[Axes]:
        """The axes that a rule gives to the outputs. An operation whose rule fails is treated as not understood."""
        try:
            results = rule(call)
            for tensor, axes in zip(call.outputs, results, strict=True):
                if [length(axis) for axis in axes] != list(tensor.shape):
                    raise ValueError(f"{[length(axis) for axis in axes]} for {list(tensor.shape)}")
        except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
            return self._fix_unsupported(call, f"its rule failed: {type(error).__name__}: {error}")
        return results

    def _set_axes(self, tensor: Tensor, axes: Axes, depends: int, new_storage: bool) -> None:
        """Set the axes of an output, and unify them with the axes of the same view if it is known."""
        self._kept_alive.append(tensor)  # a storage's address is unique only while the tensor lives
        address, geometry = storage_id(tensor), _geometry(tensor)
        if new_storage or address not in self._storages:
            self._storages[address] = Storage(tensor, depends, {geometry: axes})
        else:
            storage = self._storages[address]
            storage.depends |= depends
            known_axes = storage.views.setdefault(geometry, axes)
            if known_axes is not axes:
                for old, new in zip(known_axes, axes, strict=True):
                    unify(old, new, Cause("written to memory of another structure", self.operation, self.module))
        if depends != CONSTANT:
            self.couplings.observe(axes)

    def _mark_dependent(self, tensor: Tensor, depends: int) -> None:
        """Prepare the storage of a tensor for a write of values that are not constant."""
        storage = self.storage(tensor)
        self.view_axes(tensor)
        if storage_id(tensor) in self.unsaved_storages:
            cause = Cause("written to a buffer that is not saved with the model", self.operation, self.module)
            for axes in storage.views.values():
                for axis in axes:
                    rigidify(axis, cause)
        if storage.depends == CONSTANT:
            first_view = storage.first_view
            cause = Cause("written among constants that differ along it", self.operation, self.module)
            for dim, axis in enumerate(storage.views[_geometry(first_view)]):
                if len(_run_lengths(first_view, dim)) > 1:
                    rigidify(axis, cause)
        storage.depends |= depends

    def _fix_unsupported(self, call: Call, reason: str = "passed an operation that is not understood") -> list[Axes]:
        """Make all axes of the inputs rigid, and give rigid axes to the outputs."""
        for tensor in call.inputs:
            call.fix(call.axes_of(tensor), reason)
        return [[call.rigid(size, reason) for size in tensor.shape] for tensor in call.outputs]

    def record_value_read(self, tensor: Tensor, method: str) -> None:
        """Handle a read of a tensor's values. Raises TraceError for floating-point values computed from the input."""
        depends = self.storage(tensor).depends
        for axis in self.operand_axes(tensor):
            rigidify(axis, Cause("its values were looked at", method, self.module))
        if depends & (INTEGER_INPUT | FLOAT_INPUT):
            what = f"the values of a tensor of shape {list(tensor.shape)}"
            self._report_value_use(tensor.is_floating_point(), what, method)

    def _report_value_use(self, is_float: bool, what: str, method: str) -> None:
        """Raise TraceError for floating-point values that leave the tensors; add a note for other values."""
        where = self.module or "the model"
        if is_float:
            raise TraceError(
                f"data-dependent computation: {where} takes {what} out of a tensor ({method}), where it cannot be "
                "followed; compute with tensors instead"
            )
        self.notes.append(f"{where} looked at {what} ({method}): followed for that alone")

    def _read_scalar(self, call: Call, value: Any) -> Any:
        """Handle a scalar that leaves the tensors: the outcome of a branch, or a number to compute with."""
        for tensor in call.inputs:
            call.fix(self.operand_axes(tensor), "its values were looked at")
        if call.depends & (INTEGER_INPUT | FLOAT_INPUT) == 0:
            return value
        if isinstance(value, bool):
            step = len(self.decisions)
            if step < len(self.forced_decisions):
                value = self.forced_decisions[step]
            self.decisions.append(value)
            site = f"{call.func} in {self.module or 'the model'}"
            self.decision_sites.append((site, sum(earlier == site for earlier, _ in self.decision_sites)))
        else:
            self._report_value_use(not isinstance(value, int), f"the number {value!r}", str(call.func))
        return value


class ValueReadMode(TorchFunctionMode):
    """Detects the tensor methods that read values without an ATen operation."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.tolist, Tensor.numpy, Tensor.__array__) and isinstance(args[0], Tensor):
            self.tracer.record_value_read(args[0], func.__name__)
        return func(*args, **(kwargs or {}))


def storage_id(tensor: Tensor) -> int:
    """The identity of a tensor's memory, valid as long as the tensor lives."""
    return int(tensor.untyped_storage()._cdata)


def _geometry(tensor: Tensor) -> Geometry:
    """The geometry of a tensor."""
    return int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()), tensor.element_size()


def _reordered_view(storage: Storage, geometry: Geometry) -> Axes | None:
    """The axes of a view that has the elements of a known view, with its dimensions in another order."""
    offset, shape, strides, width = geometry
    dims = [(size, stride) for size, stride in zip(shape, strides, strict=True) if size != 1]
    for (known_offset, sizes, steps, known_width), axes in storage.views.items():
        axis_by_dim = {(size, step): axis for size, step, axis in zip(sizes, steps, axes, strict=True) if size != 1}
        is_unambiguous = len(axis_by_dim) == sum(size != 1 for size in sizes)
        same_memory = (known_offset, known_width) == (offset, width)
        if same_memory and is_unambiguous and sorted(axis_by_dim) == sorted(dims):
            return [UNIT if size == 1 else axis_by_dim[size, step] for size, step in zip(shape, strides, strict=True)]
    return None


def _run_lengths(tensor: Tensor, dim: int) -> list[int]:
    """Lengths of the runs of equal slices along a dimension. Values unequal to themselves, such as NaN, end a run."""
    size = tensor.shape[dim]
    if size < 2 or not tensor.numel():
        return [size]
    slices = tensor.detach().movedim(dim, 0).reshape(size, -1)
    changes = (slices[1:] != slices[:-1]).any(1).nonzero().flatten().tolist()
    ends = [*(change + 1 for change in changes), size]
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _decomposition(func: OpOverload) -> Callable[..., Any] | None:
    """PyTorch's decomposition of an operation into simpler ones, or None."""
    if func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        return func.decompose
    return torch._decomp.decomposition_table.get(func)
