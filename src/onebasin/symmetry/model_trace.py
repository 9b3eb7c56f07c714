"""Following a model through all of its runs: modes, examples, and answers to what it asks about its data."""

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
from onebasin.symmetry.tracer import Tracer, Windows, address_of
from onebasin.symmetry.tracer_protocol import FLOAT_INPUT, INTEGER_INPUT, STATE
from onebasin.symmetry.verify import Run

MOST_PATHS = 32
"""Runs that a model may take to show what it does under either answer to each question it asks about its data."""


@dataclass
class Trace:
    """A model followed through all of its runs; its tensors have the same atoms in each."""

    model: nn.Module
    original: nn.Module
    select: Callable[[Any], Any]
    couplings: Couplings = field(default_factory=Couplings)
    outputs: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    work: int = 0
    used: set[int] = field(default_factory=set)
    written: set[int] = field(default_factory=set)
    steps: list[tuple[str, str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dropouts = {name for name, module in self.model.named_modules() if isinstance(module, _DropoutNd)}
        self.live = state_tensors(self.model)
        self.state: dict[str, StateTensor] = {}
        self.tensors: list[tuple[Tensor, Axes]] = []
        known: dict[tuple[Any, ...], str] = {}
        shared = state_tensors(self.original)  # a copy of a model does not share memory where the model does
        firsts: dict[str, Tensor] = {}
        for name, tensor in self.live.items():
            source = shared[name]
            steps = list(zip(source.stride(), source.shape, strict=True))
            first = known.setdefault((address_of(source), source.storage_offset(), *sorted(steps)), name)
            if first == name:
                firsts[name] = source
                axes: Axes = [fresh(size) for size in tensor.shape]
            else:  # the same values, perhaps transposed
                old = zip(firsts[first].stride(), firsts[first].shape, strict=True)
                found = dict(zip(old, self.state[first].axes, strict=True))
                axes = [found[step] for step in steps]
            same_as = first if first != name and source.stride() == firsts[first].stride() else None
            self.state[name] = StateTensor(tuple(axes), isinstance(tensor, nn.Parameter), same_as)
            if first == name or address_of(tensor) != address_of(self.live[first]):
                self.tensors.append((tensor, axes))
        self._fix_overlaps(firsts)
        saved = {address_of(tensor) for tensor in self.live.values()}
        others = [t for module in self.model.modules() for t in vars(module).values() if isinstance(t, Tensor)]
        self.unsaved = frozenset(map(address_of, [*self.model.buffers(), *others])) - saved

    def restore(self) -> None:
        """Give the model's tensors the values of the original."""
        for name, tensor in state_tensors(self.original).items():
            self.live[name].data.copy_(tensor.detach())

    def follow(self, run: Run) -> None:
        """Trace a run, and every other that differs in an answer to a question about data. Raises SymmetryError."""
        paths: list[list[bool]] = [[]]
        seen: set[tuple[tuple[str, int], bool]] = set()
        done = 0
        while paths:
            decisions = paths.pop()
            done += 1
            try:
                tracer = self._follow(run, decisions)
            except SymmetryError:
                raise
            except Exception as error:
                if decisions:
                    self.notes.append(f"one path ends in {type(error).__name__}: {error}")
                    continue
                raise self._failure(run, error) from error
            if done + len(paths) > MOST_PATHS:
                raise TraceError(
                    f"data-dependent control flow: more than {MOST_PATHS} paths, from {tracer.deciders[0][0]} on"
                )
            seen.update(zip(tracer.deciders, tracer.decisions, strict=True))
            for step in range(len(decisions), len(tracer.decisions)):
                other = not tracer.decisions[step]
                if (tracer.deciders[step], other) not in seen:
                    seen.add((tracer.deciders[step], other))
                    paths.append([*tracer.decisions[:step], other])

    def follow_training(self, example: Example) -> Run | None:
        """Trace training mode, if the model can be run in it: else on the example twice over, else a note is made."""
        twice = example.map(lambda tensor: torch.cat([tensor, tensor]) if tensor.ndim else tensor)
        problem: SymmetryError | None = None
        for each in (example, twice):
            try:
                self.follow(Run(each, training=True))
                return Run(each, training=True)
            except TraceError:
                raise
            except SymmetryError as error:
                problem = problem or error
        self.notes.append(f"training mode was not followed: {problem}")
        return None

    def _follow(self, run: Run, decisions: Sequence[bool]) -> Tracer:
        self.restore()
        tracer = Tracer(self.couplings, decisions, self.unsaved)
        for tensor, axes in self.tensors:
            tracer.register(tensor, axes, STATE)
        example = run.example.map(lambda tensor: tensor.clone())
        for tensor in example.tensors():
            real = tensor.is_floating_point() or tensor.is_complex()
            cause = Cause("an input's axis")
            tracer.register(tensor, [fresh(n, cause) for n in tensor.shape], FLOAT_INPUT if real else INTEGER_INPUT)
        self.model.train(run.training)
        self.tracer = tracer
        with plain_execution(), self._watched(tracer), tracer, Windows(tracer):
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
        self.work = max(self.work, tracer.work)
        self.used |= tracer.used
        self.written |= tracer.written
        self.steps = [step for step in tracer.steps if step[1] not in self.dropouts]
        return tracer

    def fix_unused(self) -> None:
        """Tensors that no operation took keep their order: nothing is known of them."""
        for tensor, axes in self.tensors:
            if address_of(tensor) not in self.used:
                for axis in axes:
                    rigidify(axis, Cause("no operation of the trace used it"))

    def unwritten(self) -> frozenset[str]:
        """The names of parameters that no run wrote to."""
        return frozenset(
            name
            for name, tensor in self.live.items()
            if isinstance(tensor, nn.Parameter) and address_of(tensor) not in self.written
        )

    def _fix_overlaps(self, shared: Mapping[str, Tensor]) -> None:
        """Different tensors that share memory without being one keep their order."""
        spans: dict[int, list[tuple[int, int, tuple[Axis, ...]]]] = {}
        for name, tensor in shared.items():
            axes = self.state[name].axes
            begin = int(tensor.storage_offset())
            extent = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True) if n)
            spans.setdefault(address_of(tensor), []).append((begin, begin + extent, axes))
        for tensors in spans.values():
            for begin, end, axes in tensors:
                if any(begin < other_end and other < end for other, other_end, a in tensors if a is not axes):
                    for axis in axes:
                        rigidify(axis, Cause("it shares memory with another tensor"))

    @contextmanager
    def _watched(self, tracer: Tracer) -> Iterator[None]:
        """Tell the tracer which module runs, and note the axes of the first tensor that each module returns."""
        handles: list[RemovableHandle] = []

        def enter(name: str) -> Any:
            return lambda module, args: tracer.modules.append(name)

        def leave(name: str) -> Any:
            def hook(module: nn.Module, args: Any, result: Any) -> None:
                tracer.modules.pop()
                first = next(iter(tensors_of(result)), None)
                if name and first is not None and tracer.memory(first).depends & (INTEGER_INPUT | FLOAT_INPUT):
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

    def _failure(self, run: Run, error: Exception) -> SymmetryError:
        """What to say of a run that failed: whether it also fails where nobody follows it."""
        self.restore()
        try:
            with plain_execution():
                example = run.example.map(lambda tensor: tensor.clone())
                self.model(*example.args, **example.kwargs)
        except Exception as plain:
            return SymmetryError(f"the model does not take the example inputs: {type(plain).__name__}: {plain}")
        place = f"{self.tracer.operation or 'before the first operation'} in {self.tracer.module or 'the model'}"
        return TraceError(f"the model cannot be followed: {place}: {type(error).__name__}: {error}")
