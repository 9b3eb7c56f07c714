"""The numeric check: permute at random, run in double precision, compare.

The weights are disturbed first, so that what is zero or constant in a fresh model (biases, scales, statistics) cannot
hide a wrong permutation; floating point inputs too. Every group is moved in the first run. Further runs move half of
the groups, chosen by the digits of their numbers, so that any two groups are moved apart from each other in some run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from onebasin.seeds import generator
from onebasin.symmetry.errors import SymmetryError
from onebasin.symmetry.sandbox import DoublePrecision, Example, duplicate, examples, outputs_of, plain_execution, widen
from onebasin.symmetry.spec import Perms, PermutationSpec

TOLERANCE = 1e-9
"""Largest difference of an output, relative to its largest value, that passes for rounding."""

SINGLE_TOLERANCE = 1e-4
"""The same for models with operations that exist in single precision only."""

MOST_WORK = 2 * 10**10
"""Multiplications that the check may spend on runs beyond the first, counted in the parameters' uses."""


@dataclass
class Run:
    """A way to run a model: training or evaluation mode, on one example."""

    example: Example
    training: bool


class Bench:
    """A copy of a model with disturbed weights, its outputs, and how far permutations change them."""

    def __init__(
        self, model: nn.Module, runs: Sequence[Run], select: Callable[[Any], Any] = lambda returned: returned
    ) -> None:
        """model: a copy that may be changed. Raises SymmetryError if it cannot be run in double precision."""
        self.model = model
        self.select = select
        self.tolerance = TOLERANCE
        self.single: set[str] = set()
        widen(model)
        original = {name: t.detach().clone() for name, t in _state(model).items()}
        self.state = {name: _disturbed(t, name) for name, t in original.items()}
        self.runs = [Run(_disturbed_example(run.example), run.training) for run in runs]
        self.before = [self._run(run, self.state) for run in self.runs]
        if not all(_finite(outputs) for outputs, _ in self.before):
            self.state = original
            self.runs = [Run(run.example.map(_to_double), run.training) for run in runs]
            self.before = [self._run(run, self.state) for run in self.runs]
        for outputs, _ in self.before:
            if not _finite(outputs):
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
        live = _state(self.model)
        for name, tensor in live.items():
            tensor.data.copy_(state[name])
        self.model.train(run.training)
        example = run.example.map(lambda tensor: tensor.clone())
        default = torch.get_default_dtype()
        try:
            with plain_execution(), DoublePrecision(self.single):
                torch.set_default_dtype(torch.float64)
                returned = self.select(self.model(*example.args, **example.kwargs))
                outputs = [tensor.detach().clone() for tensor in outputs_of(returned)]
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
            spec = _weaker(spec, name)


def _weaker(spec: PermutationSpec, name: str) -> PermutationSpec:
    why = "the numeric check found that it changes the outputs"
    return spec.shared(name, why) if spec.groups[name].within else spec.without(name, why)


def _wrong_groups(spec: PermutationSpec, bench: Bench, names: list[str], work: int) -> list[str]:
    digits = max(1, (len(names) - 1).bit_length())
    runs = [names]
    if len(names) > 1:
        for digit in range(digits):
            for value in (0, 1):
                runs.append([name for number, name in enumerate(names) if number >> digit & 1 == value])
    affordable = 1 + MOST_WORK // max(work, 1)
    for number, chosen in enumerate(runs[:affordable]):
        if chosen and bench.difference(spec, moving(spec, chosen, number), training=not number) > bench.tolerance:
            return [
                name for name in names if bench.difference(spec, moving(spec, [name], len(runs))) > bench.tolerance
            ] or chosen
    return []


def moving(spec: PermutationSpec, names: Sequence[str], seed: int) -> Perms:
    """Random permutations of some groups, none of which leaves every neuron where it was."""
    perms: Perms = {}
    for name in names:
        shape = spec.shape(name)
        draws = generator(seed, "check", name)
        rows: list[Tensor] = []
        while len(rows) < math.prod(shape[:-1]):
            row = torch.randperm(shape[-1], generator=draws)
            if not bool((row == torch.arange(shape[-1])).all()):
                rows.append(row)
        perms[name] = torch.stack(rows).reshape(shape)
    return perms


def check_permutations(model: nn.Module, example_inputs: object, spec: PermutationSpec) -> dict[str, float]:
    """For each group, the largest relative difference that one random permutation of it makes to the model's outputs.

    In float64, with disturbed weights: about 1e-15 where the group is right. Example inputs as for `find_permutations`.
    """
    bench = Bench(duplicate(model), [Run(example, False) for example in examples(example_inputs)])
    return {name: bench.difference(spec, moving(spec, [name], 0)) for name in spec.groups}


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in model.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}


def _disturbed(tensor: Tensor, name: str) -> Tensor:
    """Other values of about the same size; signs stay where all are the same, so that variances remain positive."""
    tensor = tensor.detach()
    if not tensor.is_floating_point() or not tensor.numel():
        return tensor.clone()
    draws = generator(0, "disturb", name)
    scale = tensor.square().mean().sqrt()
    factor = torch.rand(tensor.shape, generator=draws, dtype=torch.float64) + 0.5
    extra = torch.randn(tensor.shape, generator=draws, dtype=torch.float64) * (0.2 * scale if scale else 0.1)
    if bool((tensor >= 0).all()) and scale:
        extra = extra.abs()
    return tensor * factor + extra


def _disturbed_example(example: Example) -> Example:
    numbered = iter(range(10**6))
    return example.map(lambda tensor: _disturbed(_to_double(tensor), f"input {next(numbered)}"))


def _to_double(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().to("cpu")
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
