"""The search for the permutation symmetries of any module: trace, solve, assemble, check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from onebasin.symmetry.assemble import assemble
from onebasin.symmetry.model_trace import ModelTrace
from onebasin.symmetry.nested_tensors import read_examples
from onebasin.symmetry.sandbox import copy_model
from onebasin.symmetry.spec import PermutationSpec
from onebasin.symmetry.verify import ModelRun, NumericCheck, drop_wrong_groups


@torch.inference_mode(mode=False)
def find_permutations(
    model: nn.Module, example_inputs: object, *, outputs: Callable[[Any], Any] | None = None
) -> PermutationSpec:
    """Find the groups of neurons that can be permuted without a change of the function that a model computes.

    example_inputs: a tensor, a tuple of arguments, a dict of keyword arguments, or a list of such examples. The values
    matter little; the shapes should be typical (sequences of at least two steps, so that the whole model is used).
    outputs: selects the part of the model's return value that must not change; by default all tensors in it (in tuples,
    lists, mappings and dataclasses, not in caches or other objects). The axes of these tensors keep their order.
    The model is traced in evaluation and in training mode, with random draws replaced by their means, and is left
    unchanged. An axis is permuted only if every operation on it is understood, and every group is checked numerically
    in float64. If the model branches on a value computed from its inputs, both branches are traced.
    Raises TraceError, which names the operation and the module, for a model that cannot be traced, and SymmetryError
    for inputs that do not fit, for weights or outputs that are NaN or infinite, and for models that cannot be copied.
    Source: own method; groups of neurons as in Ainsworth et al. 2023 (Git Re-Basin), section 3.
    """
    model_copy = copy_model(model)
    trace = ModelTrace(model_copy, model, outputs or (lambda returned: returned))
    runs: list[ModelRun] = []
    for example in read_examples(example_inputs):
        trace.trace_run(ModelRun(example, training=False))
        runs.append(ModelRun(example, training=False))
        evaluation_steps = trace.steps
        training_run = trace.trace_training(example)
        if training_run is not None and trace.steps != evaluation_steps:
            runs.append(training_run)
    trace.fix_unused()
    spec = assemble(trace.couplings, trace.state, trace.outputs, trace.notes)
    check = NumericCheck(model_copy, model, runs, trace.select, trace.unwritten_parameters())
    return drop_wrong_groups(spec, check, trace.multiplications)
