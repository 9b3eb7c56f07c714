"""The trace of a model through all of its runs: both modes, all examples, both outcomes of data-dependent branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.hooks import RemovableHandle

from onebasin.symmetry.algebra import Axes, Axis, Cause, fresh, rigidify
from onebasin.symmetry.assemble import StateTensor
from onebasin.symmetry.couplings import Couplings
from onebasin.symmetry.errors import SymmetryError, TraceError
from onebasin.symmetry.nested_tensors import Example, tensors_of
from onebasin.symmetry.sandbox import plain_execution, state_tensors
from onebasin.symmetry.tracer import Tracer, ValueReadMode, storage_id
from onebasin.symmetry.tracer_protocol import FLOAT_INPUT, INTEGER_INPUT, STATE
from onebasin.symmetry.verify import ModelRun

MAX_PATHS = 32
"""Limit on the runs with different outcomes of the model's data-dependent branches."""


@dataclass
class ModelTrace:
    """A model traced through all of its runs. Its tensors have the same atoms in each run.

    model: a copy of `original` that may be changed. select: takes the outputs that must not change from what the model
    returns. state: the axes of each tensor in the state_dict. outputs: the axes of the first tensor that each module
    returns. multiplications: the most in one run. steps: the operations of the last run, without dropout.
    """

    model: nn.Module
    original: nn.Module
    select: Callable[[Any], Any]
    couplings: Couplings = field(default_factory=Couplings)
    outputs: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    multiplications: int = 0
    used_storages: set[int] = field(default_factory=set)
    written_storages: set[int] = field(default_factory=set)
    steps: list[tuple[str, str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dropout_paths = {name for name, module in self.model.named_modules() if isinstance(module, _DropoutNd)}
        self.model_state = state_tensors(self.model)
        self.state: dict[str, StateTensor] = {}
        self.traced_tensors: list[tuple[Tensor, Axes]] = []
        first_names: dict[tuple[Any, ...], str] = {}
        original_state = state_tensors(self.original)  # a model's copy does not share memory as the model does
        first_tensors: dict[str, Tensor] = {}
        for name, tensor in self.model_state.items():
            source = original_state[name]
            steps = list(zip(source.stride(), source.shape, strict=True))
            first = first_names.setdefault((storage_id(source), source.storage_offset(), *sorted(steps)), name)
            if first == name:
                first_tensors[name] = source
                axes: Axes = [fresh(size) for size in tensor.shape]
            else:  # the same elements, perhaps transposed
                old = zip(first_tensors[first].stride(), first_tensors[first].shape, strict=True)
                found = dict(zip(old, self.state[first].axes, strict=True))
                axes = [found[step] for step in steps]
            same_as = first if first != name and source.stride() == first_tensors[first].stride() else None
            self.state[name] = StateTensor(tuple(axes), isinstance(tensor, nn.Parameter), same_as)
            if first == name or storage_id(tensor) != storage_id(self.model_state[first]):
                self.traced_tensors.append((tensor, axes))
        self._fix_overlaps(first_tensors)
        saved = {storage_id(tensor) for tensor in self.model_state.values()}
        others = [t for module in self.model.modules() for t in vars(module).values() if isinstance(t, Tensor)]
        self.unsaved_storages = frozenset(map(storage_id, [*self.model.buffers(), *others])) - saved

    def restore(self) -> None:
        """Copy the values of the original into the model's tensors."""
        for name, tensor in state_tensors(self.original).items():
            self.model_state[name].data.copy_(tensor.detach())

    def trace_run(self, run: ModelRun) -> None:
        """Trace a run, and every run that differs from it in the outcome of a data-dependent branch.

        Raises SymmetryError if the model does not take the example, TraceError if it cannot be traced.
        """
        paths: list[list[bool]] = [[]]
        seen: set[tuple[tuple[str, int], bool]] = set()
        finished = 0
        while paths:
            decisions = paths.pop()
            finished += 1
            try:
                tracer = self._trace_path(run, decisions)
            except SymmetryError:
                raise
            except Exception as error:
                if decisions:
                    self.notes.append(f"one path ends in {type(error).__name__}: {error}")
                    continue
                raise self._failure(run, error) from error
            if finished + len(paths) > MAX_PATHS:
                raise TraceError(
                    f"data-dependent control flow: more than {MAX_PATHS} paths, from {tracer.decision_sites[0][0]} on"
                )
            seen.update(zip(tracer.decision_sites, tracer.decisions, strict=True))
            for step in range(len(decisions), len(tracer.decisions)):
                other = not tracer.decisions[step]
                if (tracer.decision_sites[step], other) not in seen:
                    seen.add((tracer.decision_sites[step], other))
                    paths.append([*tracer.decisions[:step], other])

    def trace_training(self, example: Example) -> ModelRun | None:
        """Trace training mode on an example, or on the example concatenated with itself if the first attempt fails.

        Returns the run that succeeded, or None and a note if neither did.
        """
        doubled_example = example.map(lambda tensor: torch.cat([tensor, tensor]) if tensor.ndim else tensor)
        problem: SymmetryError | None = None
        for each in (example, doubled_example):
            try:
                self.trace_run(ModelRun(each, training=True))
                return ModelRun(each, training=True)
            except TraceError:
                raise
            except SymmetryError as error:
                problem = problem or error
        self.notes.append(f"training mode was not followed: {problem}")
        return None

    def _trace_path(self, run: ModelRun, decisions: Sequence[bool]) -> Tracer:
        """Trace one run in which the first branches have the outcomes in `decisions`."""
        self.restore()
        tracer = Tracer(self.couplings, decisions, self.unsaved_storages)
        for tensor, axes in self.traced_tensors:
            tracer.register(tensor, axes, STATE)
        example = run.example.map(lambda tensor: tensor.clone())
        for tensor in example.tensors():
            real = tensor.is_floating_point() or tensor.is_complex()
            cause = Cause("an input's axis")
            tracer.register(tensor, [fresh(n, cause) for n in tensor.shape], FLOAT_INPUT if real else INTEGER_INPUT)
        self.model.train(run.training)
        self.tracer = tracer
        with plain_execution(), self._module_hooks(tracer), tracer, ValueReadMode(tracer):
            returned = self.select(self.model(*example.args, **example.kwargs))
        results = tensors_of(returned)
        if not results:
            raise SymmetryError(f"model: returned {type(returned).__name__} without a tensor in it")
        for tensor in results:
            if not decisions and not run.training and tensor.is_floating_point() and bool(tensor.isnan().any()):
                raise SymmetryError("the model's outputs are NaN for the example inputs")
            for axis in tracer.operand_axes(tensor):
                rigidify(axis, Cause("an output's axis"))
        self.notes.extend(tracer.notes)
        self.multiplications = max(self.multiplications, tracer.multiplications)
        self.used_storages |= tracer.used_storages
        self.written_storages |= tracer.written_storages
        self.steps = [step for step in tracer.steps if step[1] not in self.dropout_paths]
        return tracer

    def fix_unused(self) -> None:
        """Make the axes of tensors rigid that no operation used, since nothing is known about them."""
        for tensor, axes in self.traced_tensors:
            if storage_id(tensor) not in self.used_storages:
                for axis in axes:
                    rigidify(axis, Cause("no operation of the trace used it"))

    def unwritten_parameters(self) -> frozenset[str]:
        """The names of parameters that no run wrote to."""
        return frozenset(
            name
            for name, tensor in self.model_state.items()
            if isinstance(tensor, nn.Parameter) and storage_id(tensor) not in self.written_storages
        )

    def _fix_overlaps(self, first_tensors: Mapping[str, Tensor]) -> None:
        """Make the axes of different tensors rigid if their memory overlaps."""
        spans: dict[int, list[tuple[int, int, tuple[Axis, ...]]]] = {}
        for name, tensor in first_tensors.items():
            axes = self.state[name].axes
            begin = int(tensor.storage_offset())
            extent = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True) if n)
            spans.setdefault(storage_id(tensor), []).append((begin, begin + extent, axes))
        for tensors in spans.values():
            for begin, end, axes in tensors:
                if any(begin < other_end and other < end for other, other_end, a in tensors if a is not axes):
                    for axis in axes:
                        rigidify(axis, Cause("it shares memory with another tensor"))

    @contextmanager
    def _module_hooks(self, tracer: Tracer) -> Iterator[None]:
        """Report the running module to the tracer, and record the axes of the first tensor that each module returns."""
        handles: list[RemovableHandle] = []

        def enter(name: str) -> Any:
            return lambda module, args: tracer.modules.append(name)

        def leave(name: str) -> Any:
            def hook(module: nn.Module, args: Any, result: Any) -> None:
                tracer.modules.pop()
                first = next(iter(tensors_of(result)), None)
                if name and first is not None and tracer.depends_on(first) & (INTEGER_INPUT | FLOAT_INPUT):
                    self.outputs.setdefault(name, tuple(tracer.view_axes(first)))

            return hook

        for name, module in self.model.named_modules():
            handles.append(module.register_forward_pre_hook(enter(name)))
            handles.append(module.register_forward_hook(leave(name), always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _failure(self, run: ModelRun, error: Exception) -> SymmetryError:
        """The error for a failed run, depending on whether the model also fails without the tracer."""
        self.restore()
        try:
            with plain_execution():
                example = run.example.map(lambda tensor: tensor.clone())
                self.model(*example.args, **example.kwargs)
        except Exception as plain:
            return SymmetryError(f"the model does not take the example inputs: {type(plain).__name__}: {plain}")
        where = f"{self.tracer.operation or 'before the first operation'} in {self.tracer.module or 'the model'}"
        return TraceError(f"the model cannot be followed: {where}: {type(error).__name__}: {error}")
