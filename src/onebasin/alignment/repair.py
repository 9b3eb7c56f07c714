"""REPAIR: restore the activation statistics of a merged network's neurons to those of the models it was merged from.

The average of imperfectly matched neurons has a smaller variance, and the loss accumulates over the layers.
Jordan, Sedghi, Saukh, Entezari, Neyshabur: REPAIR: REnormalizing Permuted Activations for Interpolation Repair. ICLR
2023 (arXiv 2211.08403), section 3.2: the mean and the standard deviation of every neuron before its nonlinearity become
the mean of the models'. "rescale" sets standard deviations alone. "norm-reset" recomputes the running statistics of
BatchNorm (section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from onebasin.alignment.forward_hooks import forward, module_hooks
from onebasin.alignment.layers import channel_dim, fitted_layers, is_linear, rows_of
from onebasin.alignment.matching import match
from onebasin.alignment.merging import shares
from onebasin.alignment.models import (
    AlignmentError,
    StateDict,
    check_finite,
    model_parameters,
    with_all_names,
    without_duplicates,
)
from onebasin.symmetry.expressions import Expression, Fixed
from onebasin.symmetry.find import find_permutations
from onebasin.symmetry.groups import TensorAxes
from onebasin.symmetry.spec import PermutationSpec

Way = Literal["repair", "rescale", "norm-reset"]
"""The methods of repair."""

Statistics = dict[str, Tensor]
"""For each hidden layer, the mean and the standard deviation of its neurons' outputs: [2, neurons]."""

MIN_RELATIVE_DEVIATION = 1e-5
"""Neurons with a smaller standard deviation, relative to the layer's largest, are not rescaled."""


def repair(
    model: nn.Module,
    merged: StateDict,
    states: Sequence[StateDict],
    inputs: object,
    weights: Sequence[float] | None = None,
    *,
    method: Way = "repair",
    spec: PermutationSpec | None = None,
) -> dict[str, Tensor]:
    """Return `merged` with its neurons' statistics restored to the weighted mean of the models' on `inputs`.

    states: the models that were merged, aligned or not: each is matched to `merged` first. inputs: some hundred
    unlabelled examples in one batch: a tensor, a tuple of arguments or a dict of keyword arguments. weights: as for
    `merge`. method: "repair", "rescale" or "norm-reset". spec: the model's symmetries; found here if None.
    Errors: `AlignmentError`.
    """
    check_method(method)
    check_finite(model_parameters(model, merged), "merged")
    if method == "norm-reset":
        return restore(model, merged, {}, inputs, method)
    if not states:
        raise AlignmentError("states: none; expected the models that were merged")
    spec = spec or find_permutations(model, inputs)
    normalised_weights = shares(len(states), weights)
    targets: Statistics = {}
    for state, weight in zip(states, normalised_weights, strict=True):
        aligned = spec.apply(state, match(spec, merged, state))
        for name, found in statistics(model, aligned, inputs).items():
            targets[name] = targets.get(name, torch.zeros_like(found)) + weight * found
    return restore(model, merged, targets, inputs, method)


def statistics(model: nn.Module, state: StateDict, inputs: object) -> Statistics:
    """Return the statistics on the inputs of each linear and convolutional layer, except the model's last one.

    The last layer is the one whose output the model returns.
    """
    found: Statistics = {}
    outputs: dict[str, Tensor] = {}

    def measure(name: str, module: nn.Module, output: Tensor) -> None:
        found[name] = _measured(rows_of(output, channel_dim(module, output)))
        outputs[name] = output

    with module_hooks(model, _linear_layers(model), after=measure):
        returned = forward(model, state, inputs)
    return {name: each for name, each in found.items() if outputs[name] is not returned}


def restore(
    model: nn.Module, merged: StateDict, targets: Mapping[str, Tensor], inputs: object, method: Way = "repair"
) -> dict[str, Tensor]:
    """Return `merged` with the statistics in `targets`: in the form of `statistics`, in its own neuron order.

    The targets may come from clients that keep their data, since they are two numbers for each neuron. `inputs` only
    serve to measure the merged network itself. Layers are set in the order of their use. Layers without a bias keep
    their mean. The running statistics of BatchNorm are recomputed in the same pass.
    Errors: `AlignmentError`.
    """
    check_method(method)
    state = {name: value.clone() for name, value in without_duplicates(model, merged).items()}

    def set_scale(name: str, module: nn.Module, output: Tensor) -> Tensor | None:
        dim = channel_dim(module, output)
        if isinstance(module, _BatchNorm) or name not in targets:
            return None
        mean, deviation = _measured(rows_of(output, dim))
        target_mean, target_deviation = targets[name].to(output.dtype)
        varies = deviation > MIN_RELATIVE_DEVIATION * deviation.max().clamp_min(1e-20)
        scale = torch.where(varies, target_deviation / deviation.clamp_min(1e-20), 1.0)
        weight, bias = module._parameters["weight"], module._parameters.get("bias")
        assert weight is not None
        weight.mul_(scale.view(-1, *[1] * (weight.ndim - 1)))
        shift = torch.zeros_like(mean)
        if bias is not None:
            if method == "repair":
                shift = target_mean - mean * scale
            bias.mul_(scale).add_(shift)
        broadcast_shape = [-1 if axis == dim else 1 for axis in range(output.ndim)]
        return output * scale.view(broadcast_shape) + shift.view(broadcast_shape)

    def reset(name: str, module: nn.Module, layer_input: Tensor) -> None:
        mean, variance = module._buffers.get("running_mean"), module._buffers.get("running_var")
        if isinstance(module, _BatchNorm) and mean is not None and variance is not None:
            rows = rows_of(layer_input, 1)
            mean.copy_(rows.mean(0))
            variance.copy_(rows.var(0))

    names = [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    layers = [name for name in _linear_layers(model) if name in targets]
    with module_hooks(model, names, before=reset), module_hooks(model, layers, after=set_scale):
        forward(model, state, inputs)
    check_finite(model_parameters(model, state), "repaired")
    return with_all_names(model, merged, state)


def check_method(method: str) -> None:
    """Raise `AlignmentError` unless this is a method of repair."""
    if method not in get_args(Way):
        raise AlignmentError(f"repair: {method!r}; expected one of {', '.join(get_args(Way))}")


def _linear_layers(model: nn.Module) -> list[str]:
    """The names of the linear and convolutional layers that can be fitted."""
    return [name for name, module in fitted_layers(model).items() if is_linear(module)]


def _measured(rows: Tensor) -> Tensor:
    """The mean and the standard deviation of each column: [2, columns]."""
    return torch.stack([rows.mean(0), rows.std(0, correction=0)])


def statistics_spec(spec: PermutationSpec, model: nn.Module, inputs: object) -> PermutationSpec:
    """Return a specification of how the groups of `spec` permute a model's `statistics`."""
    entries: dict[str, TensorAxes] = {}
    dims: dict[str, int] = {}
    known = statistics(model, model.state_dict(), inputs)

    def record_dim(name: str, module: nn.Module, output: Tensor) -> None:
        dims[name] = channel_dim(module, output)

    with module_hooks(model, list(known), after=record_dim):
        forward(model, model.state_dict(), inputs)
    for name, each in known.items():
        neurons: Expression = Fixed(each.shape[1], "no group permutes this layer's outputs")
        if name in spec.outputs:
            neurons = spec.outputs[name].axes[dims[name]]
        entries[name] = TensorAxes((Fixed(2, "mean and deviation"), neurons))
    return PermutationSpec(spec.groups, entries)
