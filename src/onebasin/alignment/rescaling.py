"""Rescaling symmetry: give each neuron outgoing weights as large as its incoming weights.

If the incoming weights of a rectified neuron are multiplied by c > 0 and its outgoing weights are divided by c, the
function is unchanged, but gradient descent takes other steps. Networks fitted layer by layer have small features and
large readouts, and diverge at the learning rates at which the models were trained. Stock, Graham, Gribonval, Jégou:
Equi-normalization of Neural Networks. ICLR 2019 (arXiv 1902.10416): rescale neuron by neuron and layer by layer in turn
until convergence, where the sum of squares of all weights is minimal.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onebasin.alignment.forward_hooks import forward
from onebasin.alignment.layers import is_linear
from onebasin.alignment.models import StateDict, check_finite, model_parameters, with_all_names, without_duplicates
from onebasin.core.seeds import generator
from onebasin.symmetry.find import find_permutations
from onebasin.symmetry.groups import Occurrence
from onebasin.symmetry.spec import PermutationSpec

SWEEPS = 30
"""Rescaling a group unbalances its neighbours, less in each sweep. LeNet5 is balanced to 0.1% after this many."""

TOLERANCE = 1e-4
"""Largest change of the outputs, relative to the largest output, that counts as rounding."""


def balance(
    model: nn.Module, state: StateDict, inputs: object, *, spec: PermutationSpec | None = None
) -> dict[str, Tensor]:
    """Return `state` with each neuron rescaled so that incoming and outgoing weights are equally large.

    For each neuron, the sum of squares of the outgoing weights equals that of the incoming weights and the bias. The
    function is unchanged: groups whose rescaling changes the outputs for `inputs` (a normalised layer, a nonlinearity
    other than ReLU and its like) stay as they are, and so do neurons without a weight on one side.
    inputs: some tens of unlabelled examples in one batch: a tensor, a tuple of arguments or a dict of keyword
    arguments. spec: the model's symmetries; found here if None.
    Errors: `AlignmentError`, and those of `find_permutations`.
    """
    check_finite(model_parameters(model, state), "state")
    original, state = state, without_duplicates(model, state)
    spec = spec or find_permutations(model, inputs)
    outputs = forward(model, state, inputs)
    candidates = [sides for sides in (_sides(model, spec, name) for name in spec.groups) if all(sides)]
    rescalable = [sides for sides in candidates if _is_rescalable(model, sides, state, inputs, outputs)]
    balanced = {key: value.clone() for key, value in state.items()}
    for _ in range(SWEEPS):
        for sides in rescalable:
            incoming, outgoing = (_sum_of_squares(side, balanced) for side in sides)
            scales = torch.where((incoming > 0) & (outgoing > 0), (outgoing / incoming) ** 0.25, 1.0)
            balanced = _scaled(balanced, sides, scales)
    return with_all_names(model, original, balanced if _close(forward(model, balanced, inputs), outputs) else state)


Sides = tuple[list[Occurrence], list[Occurrence]]
"""The occurrences of a group in incoming weights and biases, and in outgoing weights."""


def _sides(model: nn.Module, spec: PermutationSpec, group: str) -> Sides:
    """The two sides of a group; empty unless it is between linear and convolutional layers alone and not nested."""
    occurrences = [each for each in spec.occurrences(group) if spec.tensors[each.tensor].parameter]
    layers = (model.get_submodule(each.tensor.rpartition(".")[0]) for each in occurrences)
    if spec.groups[group].within or not all(is_linear(layer) for layer in layers):
        return [], []
    return [each for each in occurrences if each.axis == 0], [each for each in occurrences if each.axis > 0]


def _sum_of_squares(side: list[Occurrence], state: Mapping[str, Tensor]) -> Tensor:
    """The sum of squares of each neuron's values on one side: float64 [neurons]."""
    return torch.stack([each.unfold(state[each.tensor].double()).square().sum(-1) for each in side]).sum(0)


def _is_rescalable(model: nn.Module, sides: Sides, state: StateDict, inputs: object, outputs: Tensor) -> bool:
    """Whether rescaling a group leaves the outputs unchanged. The test uses powers of two, which cause no rounding."""
    powers = torch.randint(-1, 2, (len(_sum_of_squares(sides[0], state)),), generator=generator(0, "balance"))
    return _close(forward(model, _scaled(state, sides, torch.exp2(powers.double())), inputs), outputs)


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs agree within the tolerance."""
    return bool((one - other).abs().max() <= TOLERANCE * other.abs().max())


def _scaled(state: StateDict, sides: Sides, scales: Tensor) -> dict[str, Tensor]:
    """The state with a group's incoming weights multiplied by `scales`, and its outgoing weights divided by them."""
    scaled = dict(state)
    for side, factors in zip(sides, (scales, 1 / scales), strict=True):
        for occurrence in side:
            tensor = scaled[occurrence.tensor]
            factors_along = torch.ones(tensor.shape[occurrence.axis], dtype=torch.float64)
            factors_along[occurrence.indices.table] = factors
            shape = [-1 if dim == occurrence.axis else 1 for dim in range(tensor.ndim)]
            scaled[occurrence.tensor] = (tensor.double() * factors_along.reshape(shape)).to(tensor.dtype)
    return scaled
