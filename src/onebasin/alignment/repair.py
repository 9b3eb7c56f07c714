"""Repair: give the neurons of a merged network the statistics that they had in the models it was made of.

Averages of imperfectly matched neurons vary less than the neurons did, and every layer shrinks what is left.
Jordan, Sedghi, Saukh, Entezari, Neyshabur: REPAIR: REnormalizing Permuted Activations for Interpolation Repair. ICLR
2023 (arXiv 2211.08403), section 3.2: mean and deviation of every neuron before its nonlinearity become the mean of the
models'. "rescale" sets deviations alone. "norm-reset" computes the running statistics of BatchNorm anew (section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from onebasin.alignment.forward_hooks import forward, watched
from onebasin.alignment.layers import channel_dim, fitted_layers, is_linear, rows_of
from onebasin.alignment.matching import match
from onebasin.alignment.merging import shares
from onebasin.alignment.models import AlignmentError, State, check_finite, each_once, named_like, trained
from onebasin.symmetry.expressions import Expression, Fixed
from onebasin.symmetry.find import find_permutations
from onebasin.symmetry.groups import TensorAxes
from onebasin.symmetry.spec import PermutationSpec

Way = Literal["repair", "rescale", "norm-reset"]

Statistics = dict[str, Tensor]
"""For each hidden layer: the mean and the standard deviation of its neurons' outputs, [2, neurons]."""

LEAST = 1e-5
"""Neurons that vary less, relative to the layer's largest deviation, are left as they are."""


def repair(
    model: nn.Module,
    merged: State,
    states: Sequence[State],
    inputs: object,
    weights: Sequence[float] | None = None,
    *,
    method: Way = "repair",
    spec: PermutationSpec | None = None,
) -> dict[str, Tensor]:
    """Return `merged` with its neurons' statistics restored to the weighted mean of the states', measured on `inputs`.

    states: the models that were merged; each is brought into the order of `merged` first, so that they may be given as
    they were or aligned. inputs: some hundred examples, without labels, in one batch: a tensor, a tuple of arguments or
    a dict of keyword arguments. spec: the model's symmetries, found here if not given. weights: as for `merge`.
    Errors: `AlignmentError`.
    """
    check_way(method)
    check_finite(trained(model, merged), "merged")
    if method == "norm-reset":
        return restore(model, merged, {}, inputs, method)
    if not states:
        raise AlignmentError("states: none; expected the models that were merged")
    spec = spec or find_permutations(model, inputs)
    share = shares(len(states), weights)
    targets: Statistics = {}
    for state, part in zip(states, share, strict=True):
        aligned = spec.apply(state, match(spec, merged, state))
        for name, found in statistics(model, aligned, inputs).items():
            targets[name] = targets.get(name, torch.zeros_like(found)) + part * found
    return restore(model, merged, targets, inputs, method)


def statistics(model: nn.Module, state: State, inputs: object) -> Statistics:
    """Return the statistics of each linear and convolutional layer on the inputs, but not of what the model returns."""
    found: Statistics = {}
    outputs: dict[str, Tensor] = {}

    def measure(name: str, module: nn.Module, output: Tensor) -> None:
        found[name] = _measured(rows_of(output, channel_dim(module, output)))
        outputs[name] = output

    with watched(model, _linear_layers(model), after=measure):
        returned = forward(model, state, inputs)
    return {name: each for name, each in found.items() if outputs[name] is not returned}


def restore(
    model: nn.Module, merged: State, targets: Mapping[str, Tensor], inputs: object, method: Way = "repair"
) -> dict[str, Tensor]:
    """Return `merged` with the statistics in `targets` (as `statistics` gives them, in its own neuron order).

    They may come from anywhere: two numbers a neuron from clients that keep their data, say. What is needed of `inputs`
    is what the merged network itself says. Layers are set in the order in which they are used; layers without a bias
    keep their mean. Running statistics of normalisation layers are computed anew in the same pass.
    """
    check_way(method)
    state = {name: value.clone() for name, value in each_once(model, merged).items()}

    def set_scale(name: str, module: nn.Module, output: Tensor) -> Tensor | None:
        dim = channel_dim(module, output)
        if isinstance(module, _BatchNorm) or name not in targets:
            return None
        mean, deviation = _measured(rows_of(output, dim))
        target_mean, target_deviation = targets[name].to(output.dtype)
        varies = deviation > LEAST * deviation.max().clamp_min(1e-20)
        scale = torch.where(varies, target_deviation / deviation.clamp_min(1e-20), 1.0)
        weight, bias = module._parameters["weight"], module._parameters.get("bias")
        assert weight is not None
        weight.mul_(scale.view(-1, *[1] * (weight.ndim - 1)))
        shift = torch.zeros_like(mean)
        if bias is not None:
            if method == "repair":
                shift = target_mean - mean * scale
            bias.mul_(scale).add_(shift)
        along = [-1 if axis == dim else 1 for axis in range(output.ndim)]
        return output * scale.view(along) + shift.view(along)

    def reset(name: str, module: nn.Module, given: Tensor) -> None:
        mean, variance = module._buffers.get("running_mean"), module._buffers.get("running_var")
        if isinstance(module, _BatchNorm) and mean is not None and variance is not None:
            rows = rows_of(given, 1)
            mean.copy_(rows.mean(0))
            variance.copy_(rows.var(0))

    names = [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    layers = [name for name in _linear_layers(model) if name in targets]
    with watched(model, names, before=reset), watched(model, layers, after=set_scale):
        forward(model, state, inputs)
    check_finite(trained(model, state), "repaired")
    return named_like(model, merged, state)


def check_way(method: str) -> None:
    """Raise `AlignmentError` unless this is a way to repair."""
    if method not in get_args(Way):
        raise AlignmentError(f"repair: {method!r}; expected one of {', '.join(get_args(Way))}")


def _linear_layers(model: nn.Module) -> list[str]:
    return [name for name, module in fitted_layers(model).items() if is_linear(module)]


def _measured(rows: Tensor) -> Tensor:
    return torch.stack([rows.mean(0), rows.std(0, correction=0)])


def statistics_spec(spec: PermutationSpec, model: nn.Module, inputs: object) -> PermutationSpec:
    """Return how the groups of `spec` act on a model's `statistics`."""
    entries: dict[str, TensorAxes] = {}
    dims: dict[str, int] = {}
    known = statistics(model, model.state_dict(), inputs)

    def look(name: str, module: nn.Module, output: Tensor) -> None:
        dims[name] = channel_dim(module, output)

    with watched(model, list(known), after=look):
        forward(model, model.state_dict(), inputs)
    for name, each in known.items():
        neurons: Expression = Fixed(each.shape[1], "no group permutes this layer's outputs")
        if name in spec.outputs:
            neurons = spec.outputs[name].axes[dims[name]]
        entries[name] = TensorAxes((Fixed(2, "mean and deviation"), neurons))
    return PermutationSpec(spec.groups, entries)
