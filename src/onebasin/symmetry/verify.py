"""The numeric check: permute at random, run in double precision, compare.

The weights are disturbed first, so that what is zero or constant in a fresh model (biases, scales, statistics) cannot
hide a wrong permutation; floating point inputs too. Every group is moved in the first three runs, for one permutation
can be right by chance. Further runs move half of the groups, chosen by the digits of their numbers, so that any two
groups are moved apart from each other in some run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from onebasin.core.seeds import generator
from onebasin.symmetry.double_precision import DoublePrecision, widen
from onebasin.symmetry.errors import SymmetryError
from onebasin.symmetry.nested_tensors import Example, read_examples, tensors_of
from onebasin.symmetry.sandbox import copy_model, plain_execution, state_tensors
from onebasin.symmetry.spec import Perms, PermutationSpec
from onebasin.symmetry.weakening import weaker

TOLERANCE = 1e-9
"""Largest difference of an output, relative to its largest value, that passes for rounding."""

SINGLE_TOLERANCE = 1e-4
"""The same for models with operations that exist in single precision only."""

MOST_WORK = 10**10
"""Multiplications that the check may spend on runs beyond the first, counted in the parameters' uses."""


@dataclass
class Run:
    """A way to run a model: training or evaluation mode, on one example."""

    example: Example
    training: bool


class Bench:
    """A copy of a model with disturbed weights, its outputs, and how far permutations change them."""

    def __init__(
        self,
        model: nn.Module,
        original: nn.Module,
        runs: Sequence[Run],
        select: Callable[[Any], Any] = lambda returned: returned,
        unwritten: frozenset[str] = frozenset(),
    ) -> None:
        """model: a copy of the original that may be changed. unwritten: tensors that no run writes to.

        Raises SymmetryError if the model cannot be run in float64, or its outputs are not finite.
        """
        self.model = model
        self.select = select
        self.tolerance = TOLERANCE
        self.single: set[str] = set()
        self.unwritten = unwritten
        for values, change in ((_disturbed, _disturbed_example), (_to_double, _double_example)):
            self.state = {name: values(tensor, name) for name, tensor in state_tensors(original).items()}
            self.runs = [Run(change(run.example), run.training) for run in runs]
            self.before = [self._run(run, self.state) for run in self.runs]
            if all(_finite(outputs) for outputs, _ in self.before):
                return
        raise SymmetryError("the model's outputs are NaN or infinite for the example inputs")

    def difference(self, spec: PermutationSpec, perms: Perms, training: bool = True) -> float:
        """How far outputs, and the state after a run in training mode, are from what they should be, relatively.

        training: whether to run that mode too.
        """
        worst = 0.0
        moved = spec.apply(self.state, perms)
        for run, (outputs, state) in zip(self.runs, self.before, strict=True):
            if run.training and not training:
                continue
            found, after = self._run(run, moved)
            expected = spec.apply(state, perms)
            pairs = [*zip(outputs, found, strict=False), *((expected[name], after[name]) for name in expected)]
            worst = max([worst, *(_relative(one, other) for one, other in pairs)])
            if len(outputs) != len(found):
                return math.inf
        return worst

    def _run(self, run: Run, state: dict[str, Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The outputs with these weights, and in training mode what became of the buffers."""
        live = state_tensors(self.model)
        for name, tensor in live.items():
            tensor.data = state[name] if name in self.unwritten else state[name].clone()
        widen(self.model)
        self.model.train(run.training)
        example = run.example.map(lambda tensor: tensor.clone())
        default = torch.get_default_dtype()
        try:
            with plain_execution(), DoublePrecision(self.single):
                torch.set_default_dtype(torch.float64)
                returned = self.select(self.model(*example.args, **example.kwargs))
                outputs = [tensor.detach().clone() for tensor in tensors_of(returned)]
        except Exception as error:
            raise SymmetryError(f"the model cannot be run in float64: {type(error).__name__}: {error}") from error
        finally:
            torch.set_default_dtype(default)
        after = {n: t.detach().clone() for n, t in live.items() if run.training and not isinstance(t, nn.Parameter)}
        return outputs, after


def verified(spec: PermutationSpec, bench: Bench, work: int) -> PermutationSpec:
    """The specification without the groups that change what the model computes; notes say which.

    work: multiplications in one run, which bounds the number of runs.
    """
    if bench.single:
        bench.tolerance = SINGLE_TOLERANCE
        note = f"checked in single precision, for {', '.join(sorted(bench.single))} know no other"
        spec = replace(spec, notes=(*spec.notes, note))
    while True:
        names = list(spec.groups)
        wrong = _wrong_groups(spec, bench, names, work)
        if not wrong:
            return spec
        for name in wrong:
            spec = weaker(spec, name, "the numeric check found that it changes the outputs")


def _wrong_groups(spec: PermutationSpec, bench: Bench, names: list[str], work: int) -> list[str]:
    digits = max(1, (len(names) - 1).bit_length())
    runs = [names] * 3
    if len(names) > 1:
        for digit in range(digits):
            for value in (0, 1):
                runs.append([name for number, name in enumerate(names) if number >> digit & 1 == value])
    affordable = 1 + MOST_WORK // max(work, 1)
    for number, chosen in enumerate(runs[:affordable]):
        if chosen and bench.difference(spec, moving(spec, chosen, number), training=not number) > bench.tolerance:
            return [
                name
                for name in names
                if any(bench.difference(spec, moving(spec, [name], seed)) > bench.tolerance for seed in (0, len(runs)))
            ] or chosen
    return []


def moving(spec: PermutationSpec, names: Sequence[str], seed: int) -> Perms:
    """Random permutations of some groups, none of which leaves every neuron where it was.

    Of a group within others, every permutation moves something for seed 0; for other seeds they are not all alike.
    """
    perms: Perms = {}
    for name in names:
        shape = spec.shape(name)
        draws = generator(seed, "check", name)
        rows = _rows(shape, draws)
        if seed and len(rows) > 1:
            while bool((rows == rows[0]).all()):
                rows = _rows(shape, draws)
        else:
            while not bool((moved := (rows != torch.arange(shape[-1])).any(1)).all()):
                rows[~moved] = _rows(shape, draws)[~moved]
        perms[name] = rows.reshape(shape)
    return perms


def _rows(shape: Sequence[int], draws: torch.Generator) -> Tensor:
    return torch.stack([torch.randperm(shape[-1], generator=draws) for _ in range(math.prod(shape[:-1]))])


def check_permutations(model: nn.Module, example_inputs: object, spec: PermutationSpec) -> dict[str, float]:
    """For each group, the largest relative difference that one random permutation of it makes to the model's outputs.

    In float64, with disturbed weights: about 1e-15 where the group is right. Example inputs as for `find_permutations`.
    """
    bench = Bench(copy_model(model), model, [Run(example, False) for example in read_examples(example_inputs)])
    return {name: bench.difference(spec, moving(spec, [name], 0)) for name in spec.groups}


def _disturbed(tensor: Tensor, name: str) -> Tensor:
    """Other values of about the same size; signs stay where all are the same, so that variances remain positive."""
    changed = _to_double(tensor)
    if not changed.is_floating_point() or not changed.numel():
        return changed
    scale = float(torch.linalg.vector_norm(changed)) / math.sqrt(changed.numel())
    offset = 0.5 if scale and float(changed.min()) >= 0 else 1.0
    draws = torch.rand(changed.shape, generator=generator(0, "disturb", name)).add_(0.5)
    changed.mul_(draws)  # by 0.5 to 1.5, and 0.4 of the scale is added or taken away at most
    return changed.add_(draws.sub_(offset), alpha=0.8 * scale or 0.2)


def _disturbed_example(example: Example) -> Example:
    numbered = count()
    return example.map(lambda tensor: _disturbed(tensor, f"input {next(numbered)}"))


def _double_example(example: Example) -> Example:
    return example.map(lambda tensor: _to_double(tensor, ""))


def _to_double(tensor: Tensor, name: str = "") -> Tensor:
    """A copy of a tensor on the CPU, in float64 if its values are real."""
    tensor = tensor.detach().to("cpu", copy=True)
    return tensor.double() if tensor.is_floating_point() else tensor


def _finite(outputs: Sequence[Tensor]) -> bool:
    return all(bool(t.isfinite().all()) for t in outputs if t.is_floating_point())


def _relative(expected: Tensor, found: Tensor) -> float:
    if expected.shape != found.shape:
        return math.inf
    if not expected.numel():
        return 0.0
    if not expected.is_floating_point() and not expected.is_complex():
        return 0.0 if bool((expected == found).all()) else math.inf
    scale = float(expected.abs().max())
    difference = float((expected - found).abs().max())
    return difference / scale if scale else (math.inf if difference else 0.0)
