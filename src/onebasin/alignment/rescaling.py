"""Balance: the neurons of a network get outgoing weights that are as large as their incoming ones.

A rectified neuron whose incoming weights are multiplied by c > 0 and whose outgoing ones are divided by it computes the
same, but gradient descent does not take the same steps. What is fitted layer by layer has weak features and loud
readouts, and diverges at rates at which the models were trained. Stock, Graham, Gribonval, Jégou: Equi-normalization
of Neural Networks. ICLR 2019 (arXiv 1902.10416): neuron by neuron and layer by layer in turn, until nothing moves,
which is where the sum of squares of all weights is least.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onebasin.alignment.forward_hooks import forward
from onebasin.alignment.layers import is_linear
from onebasin.alignment.models import State, check_finite, each_once, named_like, trained
from onebasin.core.seeds import generator
from onebasin.symmetry.find import find_permutations
from onebasin.symmetry.groups import Occurrence
from onebasin.symmetry.spec import PermutationSpec

SWEEPS = 30
"""Every group's scales shift those of its neighbours, less from sweep to sweep; LeNet5 is within 0.1% after so many."""

SAME = 1e-4
"""So far, relative to the largest, outputs may be from what they were: more than rounding is another function."""


def balance(
    model: nn.Module, state: State, inputs: object, *, spec: PermutationSpec | None = None
) -> dict[str, Tensor]:
    """Return `state` with each neuron rescaled: its outgoing weights' sum of squares is that of its incoming and bias.

    The function stays: a group of neurons where scaling changes what the model says to `inputs` (a normalised layer,
    another nonlinearity than ReLU and its like) is left as it is, and so are neurons without a weight on either side.
    inputs: some tens of examples, without labels, in one batch: a tensor, a tuple of arguments or a dict of keyword
    arguments. spec: the model's symmetries, found here if not given. Errors: `AlignmentError`; those of
    `find_permutations`.
    """
    check_finite(trained(model, state), "state")
    given, state = state, each_once(model, state)
    spec = spec or find_permutations(model, inputs)
    said = forward(model, state, inputs)
    both = [sides for sides in (_sides(model, spec, name) for name in spec.groups) if all(sides)]
    rescalable = [sides for sides in both if _keeps(model, sides, state, inputs, said)]
    balanced = {key: value.clone() for key, value in state.items()}
    for _ in range(SWEEPS):
        for sides in rescalable:
            into, out = (_energy(side, balanced) for side in sides)
            balanced = _scaled(balanced, sides, torch.where((into > 0) & (out > 0), (out / into) ** 0.25, 1.0))
    return named_like(model, given, balanced if _near(forward(model, balanced, inputs), said) else state)


Sides = tuple[list[Occurrence], list[Occurrence]]
"""Where a group's incoming weights and biases are, and where its outgoing weights."""


def _sides(model: nn.Module, spec: PermutationSpec, group: str) -> Sides:
    """Nothing, where a group is not between linear layers and convolutions alone."""
    places = [place for place in spec.occurrences(group) if spec.tensors[place.tensor].parameter]
    layers = (model.get_submodule(place.tensor.rpartition(".")[0]) for place in places)
    if spec.groups[group].within or not all(is_linear(layer) for layer in layers):
        return [], []
    return [place for place in places if place.axis == 0], [place for place in places if place.axis > 0]


def _energy(side: list[Occurrence], state: Mapping[str, Tensor]) -> Tensor:
    """The sum of squares of each neuron's values, float64 [neurons]."""
    return torch.stack([place.unfold(state[place.tensor].double()).square().sum(-1) for place in side]).sum(0)


def _keeps(model: nn.Module, sides: Sides, state: State, inputs: object, said: Tensor) -> bool:
    """Whether a group's neurons can be rescaled; tried with powers of two, which round nothing."""
    powers = torch.randint(-1, 2, (len(_energy(sides[0], state)),), generator=generator(0, "balance"))
    return _near(forward(model, _scaled(state, sides, torch.exp2(powers.double())), inputs), said)


def _near(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= SAME * other.abs().max())


def _scaled(state: State, sides: Sides, scales: Tensor) -> dict[str, Tensor]:
    """The state with a group's incoming weights multiplied by scales, and its outgoing ones divided."""
    after = dict(state)
    for side, factors in zip(sides, (scales, 1 / scales), strict=True):
        for place in side:
            tensor = after[place.tensor]
            along = torch.ones(tensor.shape[place.axis], dtype=torch.float64)
            along[place.indices.table] = factors
            shape = [-1 if dim == place.axis else 1 for dim in range(tensor.ndim)]
            after[place.tensor] = (tensor.double() * along.reshape(shape)).to(tensor.dtype)
    return after
