"""The numeric check: permute neurons at random, run the model in float64, and compare.

The weights and the floating-point inputs are perturbed first, because zeros and constants in a new model (biases,
scales, statistics) could hide a wrong permutation. The first three runs permute every group, since a single wrong
permutation can leave the outputs unchanged by chance. Each further run permutes half of the groups, selected by one
binary digit of their numbers, so that for any two groups some run permutes one without the other.
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
from onebasin.symmetry.double_precision import DoublePrecision, to_double_precision
from onebasin.symmetry.errors import SymmetryError
from onebasin.symmetry.nested_tensors import Example, read_examples, tensors_of
from onebasin.symmetry.sandbox import copy_model, plain_execution, state_tensors
from onebasin.symmetry.spec import Perms, PermutationSpec
from onebasin.symmetry.weakening import weaken

TOLERANCE = 1e-9
"""Largest difference of an output, relative to its largest value, that counts as rounding."""

SINGLE_PRECISION_TOLERANCE = 1e-4
"""The same for models with operations that exist in single precision only."""

MAX_MULTIPLICATIONS = 10**10
"""Multiplications in the traced operations that all runs of the check after the first may take together."""


@dataclass
class ModelRun:
    """One way to run a model: an example, and training or evaluation mode."""

    example: Example
    training: bool


class NumericCheck:
    """A copy of a model with perturbed weights, its reference outputs, and their change under permutations."""

    def __init__(
        self,
        model: nn.Module,
        original: nn.Module,
        runs: Sequence[ModelRun],
        select: Callable[[Any], Any] = lambda returned: returned,
        unwritten: frozenset[str] = frozenset(),
    ) -> None:
        """Run the model with perturbed weights, or with its own if the outputs are then not finite.

        model: a copy of the original that may be changed. unwritten: parameters that no run writes to, which need no
        copy. Raises SymmetryError if the model cannot be run in float64, or its outputs are not finite.
        """
        self.model = model
        self.select = select
        self.tolerance = TOLERANCE
        self.single_precision: set[str] = set()
        self.unwritten = unwritten
        for values, change in ((_perturbed, _perturbed_example), (_to_double, _double_example)):
            self.state = {name: values(tensor, name) for name, tensor in state_tensors(original).items()}
            self.runs = [ModelRun(change(run.example), run.training) for run in runs]
            self.reference = [self._run(run, self.state) for run in self.runs]
            if all(_finite(outputs) for outputs, _ in self.reference):
                return
        raise SymmetryError("the model's outputs are NaN or infinite for the example inputs")

    def difference(self, spec: PermutationSpec, perms: Perms, training: bool = True) -> float:
        """The largest relative error of the outputs, and of the buffers after training mode, under permutations.

        training: whether to run training mode too.
        """
        largest = 0.0
        permuted = spec.apply(self.state, perms)
        for run, (outputs, state) in zip(self.runs, self.reference, strict=True):
            if run.training and not training:
                continue
            found, after = self._run(run, permuted)
            expected = spec.apply(state, perms)
            pairs = [*zip(outputs, found, strict=False), *((expected[name], after[name]) for name in expected)]
            largest = max([largest, *(_relative(one, other) for one, other in pairs)])
            if len(outputs) != len(found):
                return math.inf
        return largest

    def _run(self, run: ModelRun, state: dict[str, Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The outputs with these weights and, in training mode, the buffers after the run."""
        live = state_tensors(self.model)
        for name, tensor in live.items():
            tensor.data = state[name] if name in self.unwritten else state[name].clone()
        to_double_precision(self.model)
        self.model.train(run.training)
        example = run.example.map(lambda tensor: tensor.clone())
        default = torch.get_default_dtype()
        try:
            with plain_execution(), DoublePrecision(self.single_precision):
                torch.set_default_dtype(torch.float64)
                returned = self.select(self.model(*example.args, **example.kwargs))
                outputs = [tensor.detach().clone() for tensor in tensors_of(returned)]
        except Exception as error:
            raise SymmetryError(f"the model cannot be run in float64: {type(error).__name__}: {error}") from error
        finally:
            torch.set_default_dtype(default)
        after = {n: t.detach().clone() for n, t in live.items() if run.training and not isinstance(t, nn.Parameter)}
        return outputs, after


def drop_wrong_groups(spec: PermutationSpec, check: NumericCheck, multiplications: int) -> PermutationSpec:
    """Weaken all groups whose permutations change the outputs, until none does. Notes name them.

    multiplications: in one run; this bounds the number of runs.
    """
    if check.single_precision:
        check.tolerance = SINGLE_PRECISION_TOLERANCE
        note = f"checked in single precision, for {', '.join(sorted(check.single_precision))} know no other"
        spec = replace(spec, notes=(*spec.notes, note))
    while True:
        names = list(spec.groups)
        wrong = _wrong_groups(spec, check, names, multiplications)
        if not wrong:
            return spec
        for name in wrong:
            spec = weaken(spec, name, "the numeric check found that it changes the outputs")


def _wrong_groups(spec: PermutationSpec, check: NumericCheck, names: list[str], multiplications: int) -> list[str]:
    """The groups that change the outputs on their own, else the first set of groups that does, else no group."""
    digits = max(1, (len(names) - 1).bit_length())
    runs = [names] * 3
    if len(names) > 1:
        for digit in range(digits):
            for value in (0, 1):
                runs.append([name for number, name in enumerate(names) if number >> digit & 1 == value])
    max_runs = 1 + MAX_MULTIPLICATIONS // max(multiplications, 1)
    for number, permuted in enumerate(runs[:max_runs]):
        if permuted and _changes_outputs(spec, check, permuted, number, training=not number):
            seeds = (0, len(runs))
            alone = [name for name in names if any(_changes_outputs(spec, check, [name], seed) for seed in seeds)]
            return alone or permuted
    return []


def _changes_outputs(
    spec: PermutationSpec, check: NumericCheck, names: list[str], seed: int, training: bool = True
) -> bool:
    """Whether random permutations of these groups change an output, or a buffer after training mode."""
    return check.difference(spec, non_identity_permutations(spec, names, seed), training) > check.tolerance


def non_identity_permutations(spec: PermutationSpec, names: Sequence[str], seed: int) -> Perms:
    """Random permutations of some groups, none of which is the identity.

    For a nested group and seed 0, no row is the identity; for other seeds, the rows are not all equal.
    """
    perms: Perms = {}
    for name in names:
        shape = spec.shape(name)
        rng = generator(seed, "check", name)
        rows = _random_rows(shape, rng)
        if seed and len(rows) > 1:
            while bool((rows == rows[0]).all()):
                rows = _random_rows(shape, rng)
        else:
            while not bool((moved := (rows != torch.arange(shape[-1])).any(1)).all()):
                rows[~moved] = _random_rows(shape, rng)[~moved]
        perms[name] = rows.reshape(shape)
    return perms


def _random_rows(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Uniformly random permutations, one in each row: [rows, neurons]."""
    return torch.stack([torch.randperm(shape[-1], generator=rng) for _ in range(math.prod(shape[:-1]))])


def check_permutations(model: nn.Module, example_inputs: object, spec: PermutationSpec) -> dict[str, float]:
    """For each group, the largest relative change of the model's outputs under one random permutation of it.

    The check runs in float64 with perturbed weights; correct groups have values of about 1e-15. Example inputs as for
    `find_permutations`.
    """
    runs = [ModelRun(example, training=False) for example in read_examples(example_inputs)]
    check = NumericCheck(copy_model(model), model, runs)
    return {name: check.difference(spec, non_identity_permutations(spec, [name], 0)) for name in spec.groups}


def _perturbed(tensor: Tensor, name: str) -> Tensor:
    """Random values of a similar size. If no value is negative, none becomes so, because variances must be positive."""
    changed = _to_double(tensor)
    if not changed.is_floating_point() or not changed.numel():
        return changed
    scale = float(torch.linalg.vector_norm(changed)) / math.sqrt(changed.numel())
    offset = 0.5 if scale and float(changed.min()) >= 0 else 1.0
    factors = torch.rand(changed.shape, generator=generator(0, "disturb", name)).add_(0.5)
    changed.mul_(factors)  # multiply by 0.5 to 1.5, then add or subtract at most 0.4 of the scale
    return changed.add_(factors.sub_(offset), alpha=0.8 * scale or 0.2)


def _perturbed_example(example: Example) -> Example:
    """The example with perturbed tensors."""
    number = count()
    return example.map(lambda tensor: _perturbed(tensor, f"input {next(number)}"))


def _double_example(example: Example) -> Example:
    """The example in float64."""
    return example.map(lambda tensor: _to_double(tensor, ""))


def _to_double(tensor: Tensor, name: str = "") -> Tensor:
    """A copy of a tensor on the CPU, in float64 if its values are real."""
    tensor = tensor.detach().to("cpu", copy=True)
    return tensor.double() if tensor.is_floating_point() else tensor


def _finite(outputs: Sequence[Tensor]) -> bool:
    """Whether all values of the outputs are finite."""
    return all(bool(t.isfinite().all()) for t in outputs if t.is_floating_point())


def _relative(expected: Tensor, found: Tensor) -> float:
    """The largest difference relative to the largest expected value; infinite for unequal shapes or integers."""
    if expected.shape != found.shape:
        return math.inf
    if not expected.numel():
        return 0.0
    if not expected.is_floating_point() and not expected.is_complex():
        return 0.0 if bool((expected == found).all()) else math.inf
    scale = float(expected.abs().max())
    difference = float((expected - found).abs().max())
    return difference / scale if scale else (math.inf if difference else 0.0)
