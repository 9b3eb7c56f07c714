"""Finding the permutation symmetries of any module: trace, solve, assemble, check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from onebasin.symmetry.assemble import assemble
from onebasin.symmetry.model_trace import Trace
from onebasin.symmetry.nested_tensors import read_examples
from onebasin.symmetry.sandbox import copy_model
from onebasin.symmetry.spec import PermutationSpec
from onebasin.symmetry.verify import Bench, Run, verified


@torch.inference_mode(mode=False)
def find_permutations(
    model: nn.Module, example_inputs: object, *, outputs: Callable[[Any], Any] | None = None
) -> PermutationSpec:
    """Find which neurons of a model can be permuted without a change of the function it computes.

    example_inputs: a tensor, a tuple of arguments, a dict of keyword arguments, or a list of several such examples.
    Values matter little; shapes should be typical (sequences of at least two, so that the whole model is used). The
    model is traced in evaluation and in training mode, with random draws replaced by their means, and is left exactly
    as it was. An axis is permuted only where every operation that it passes is understood; every group is checked
    numerically in float64. Where a model asks for the truth of something computed from its inputs, it is followed
    for either answer.
    outputs: takes from what the model returns that which must not change; by default all tensors in it (in tuples,
    lists, mappings, dataclasses; not in caches or other objects). Their axes keep their order.
    Method: own; groups of neurons as in Ainsworth et al. 2023 (Git Re-Basin), section 3.
    Raises TraceError (which operation, which module) for a model that cannot be traced, SymmetryError for inputs that
    do not fit, for weights or outputs that are NaN or infinite, and for models that cannot be copied.
    """
    twin = copy_model(model)
    trace = Trace(twin, model, outputs or (lambda returned: returned))
    runs: list[Run] = []
    for example in read_examples(example_inputs):
        trace.follow(Run(example, training=False))
        runs.append(Run(example, training=False))
        evaluated = trace.steps
        trainable = trace.follow_training(example)
        if trainable is not None and trace.steps != evaluated:
            runs.append(trainable)
    trace.fix_unused()
    spec = assemble(trace.couplings, trace.state, trace.outputs, trace.notes)
    return verified(spec, Bench(twin, model, runs, trace.select, trace.unwritten()), trace.work)
