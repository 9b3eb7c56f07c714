"""Layer-wise least squares: a merged network whose layers reproduce the mean outputs of the aligned models.

The average of aligned weights attenuates imperfectly matched neurons, and the attenuation accumulates over the layers.
So the layers are fitted in the order of their use: each gets the weights that reproduce the models' mean output from
the inputs that the *merged* network provides, by ridge regression towards the averaged weights. Probe inputs need no
labels, and may be synthetic.
Related: Jin, Ren, Preotiuc-Pietro, Cheng: Dataless Knowledge Fusion by Merging Weights. ICLR 2023 (arXiv 2212.09849),
section 3 (RegMean); Nasery, Hayase, Koh, Oh: PLeaS. 2024 (arXiv 2407.02447).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from onebasin.alignment.forward_hooks import forward, module_hooks
from onebasin.alignment.layers import Rows, channel_dim, fitted_layers, is_linear, rows_of
from onebasin.alignment.merging import average, shares
from onebasin.alignment.models import (
    AlignmentError,
    StateDict,
    check_finite,
    model_parameters,
    with_all_names,
    without_duplicates,
)
from onebasin.alignment.recurrence import fit_gates, gate_pre_activations, recurrent_layers, sequences_first
from onebasin.alignment.ridge import Ridge
from onebasin.core.seeds import generator

RIDGE = 0.003
AGREEMENT = 2.0
MAX_ROWS = 20_000


def least_squares(
    model: nn.Module,
    states: Sequence[StateDict],
    inputs: object,
    weights: Sequence[float] | None = None,
    *,
    ridge: float = RIDGE,
    anchor: int | None = None,
    agreement: float = AGREEMENT,
    teach: Tensor | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return the state of one model that reproduces, layer by layer, the mean outputs of models in one neuron order.

    states: aligned (`spec.apply(state, perms)`). inputs: probes, all in one batch: a tensor, a tuple of arguments or a
    dict of keyword arguments. weights: of the models in the mean (default: equal).
    ridge: penalty on the distance from the averaged weights, in units of the mean square of a layer's inputs.
    anchor: index of the model with which the others are compared. A model's weight for a neuron is then multiplied by
    the neuron's correlation with the anchor's on the probes, to the power of `agreement`. With a power of 2, this
    factor is the fraction of explained variance; with a large power, only the anchor counts. None: no such factor.
    teach: targets for the output of the whole model, instead of the mean output (see `ensemble_targets.consult`).
    seed: of the random sample of rows on which each layer is fitted; a row [d] is a layer's output for one probe, at
    one position or time step.
    These parts keep the averaged weights: embeddings; transposed layers; layers with shared weights; recurrent layers
    whose input is an initial state, a packed sequence or a single sequence; and, in every layer, the directions of its
    input space in which the probes have no component.
    Errors: `AlignmentError` for invalid arguments, and if the outputs on the probes are so large that no finite weights
    result.
    """
    if len(states) == 0 or (anchor is not None and not 0 <= anchor < len(states)):
        raise AlignmentError(f"anchor: {anchor} of {len(states)} models; expected one of them")
    if not agreement >= 0:
        raise AlignmentError(f"agreement: {agreement}; expected 0 or more")
    if not ridge > 0:
        raise AlignmentError(f"ridge: {ridge}; expected more than 0")
    for position, state in enumerate(states):
        check_finite(model_parameters(model, state), f"model {position + 1} of {len(states)}")
    original, states = states[0], [without_duplicates(model, state) for state in states]
    normalised_weights = shares(len(states), weights)
    targets = _mean_outputs(model, states, inputs, normalised_weights, anchor, agreement, seed)
    if teach is not None:
        targets.teach(teach)
    merged = {name: value.clone() for name, value in average(states, weights).items()}

    def fit(name: str, module: nn.Module, layer_input: Tensor) -> None:
        rows, outputs = targets.rows[name], targets.outputs[name]
        if isinstance(module, nn.RNNBase):
            sequences = sequences_first(module, layer_input)[rows.examples]
            fit_gates(module, sequences, outputs.reshape(*sequences.shape[:2], -1), ridge)
        elif is_linear(module):
            _fit_linear(module, layer_input, rows, outputs, ridge)
        else:
            _fit_norm(module, layer_input, rows, outputs, ridge)

    with module_hooks(model, targets.outputs, before=fit):
        forward(model, merged, inputs)
    check_finite(model_parameters(model, merged), "merged by least squares")
    return with_all_names(model, original, merged)


@dataclass
class _LayerTargets:
    """The target outputs of the merged model at sampled rows of each layer.

    last: the layer whose output the model returns, None if there is none.
    """

    rows: dict[str, Rows] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    last: str | None = None

    def teach(self, outputs: Tensor) -> None:
        """Replace the targets of the last layer."""
        if self.last is None:
            raise AlignmentError("teach: the model does not return a fitted layer's output, so it cannot be taught one")
        rows = self.rows[self.last]
        if outputs.shape[-1] != self.outputs[self.last].shape[-1] or outputs[..., 0].numel() <= int(rows.indices.max()):
            raise AlignmentError(f"teach: shape {list(outputs.shape)} is not that of the model's output")
        self.outputs[self.last] = rows.select(outputs.float(), outputs.ndim - 1)


def _mean_outputs(
    model: nn.Module,
    states: Sequence[StateDict],
    inputs: object,
    normalised_weights: Sequence[float],
    anchor: int | None,
    agreement: float,
    seed: int,
) -> _LayerTargets:
    """The mean outputs of all layers, from one forward pass of each model; the anchor's is the first."""
    targets, layers, recurrent = _LayerTargets(), fitted_layers(model), recurrent_layers(model)
    rng = generator(seed, "rows")
    order = list(range(len(states)))
    if anchor is not None:
        order.remove(anchor)
        order.insert(0, anchor)
    reference: dict[str, Tensor] = {}
    total: dict[str, Tensor] = {}
    for index in order:
        for name, rows in _layer_outputs(model, states[index], inputs, layers, recurrent, targets, rng).items():
            weight = torch.tensor(normalised_weights[index])
            if anchor is not None and name != targets.last:
                weight = weight * _correlation(rows, reference.setdefault(name, rows)) ** agreement
            targets.outputs[name] = targets.outputs.get(name, 0.0) + weight * rows
            total[name] = total.get(name, 0.0) + weight
    targets.outputs = {name: rows / total[name].clamp_min(1e-12) for name, rows in targets.outputs.items()}
    return targets


def _layer_outputs(
    model: nn.Module,
    state: StateDict,
    inputs: object,
    layers: Collection[str],
    recurrent: Collection[str],
    targets: _LayerTargets,
    rng: torch.Generator,
) -> dict[str, Tensor]:
    """The outputs of a model's layers at the sampled rows, which are drawn for each layer when it first runs.

    For recurrent layers, the pre-activations of their gates. Sets `targets.last` to the layer whose output the model
    returns.
    """
    layer_outputs: dict[str, Tensor] = {}
    layer_inputs: dict[str, Tensor] = {}
    last_output: list[tuple[str, Tensor]] = []

    def record_input(name: str, module: nn.Module, layer_input: Tensor) -> None:
        layer_inputs[name] = layer_input

    def record_gates(name: str, module: nn.RNNBase, output: Tensor) -> None:
        if name not in layer_inputs or layer_inputs[name].ndim != 3:
            return
        rows = targets.rows.get(name) or Rows.sample_sequences(sequences_first(module, output), MAX_ROWS, rng)
        gates, replayed = gate_pre_activations(module, sequences_first(module, layer_inputs[name])[rows.examples])
        # A layer whose outputs do not follow from its inputs alone (it got an initial state) is not fitted.
        if torch.allclose(replayed, sequences_first(module, output)[rows.examples], 1e-3, 1e-4):
            targets.rows[name], layer_outputs[name] = rows, gates.flatten(0, 1).float()

    def record_output(name: str, module: nn.Module, output: Tensor) -> None:
        if isinstance(module, nn.RNNBase):
            record_gates(name, module, output)
            return
        dim = channel_dim(module, output)
        if name not in targets.rows:
            targets.rows[name] = Rows.sample(output, dim, MAX_ROWS, rng)
        layer_outputs[name] = targets.rows[name].select(output, dim).float()
        last_output[:] = [(name, output)]

    with (
        module_hooks(model, recurrent, before=record_input),
        module_hooks(model, [*layers, *recurrent], after=record_output),
    ):
        returned = forward(model, state, inputs)
    if last_output and last_output[0][1] is returned:
        targets.last = last_output[0][0]
    return layer_outputs


def _correlation(rows: Tensor, reference: Tensor) -> Tensor:
    """The correlation of each column with the reference's column, at least 0; exactly 1 for the reference itself."""
    if rows is reference:
        return torch.ones(rows.shape[1])
    one, other = rows - rows.mean(0), reference - reference.mean(0)
    norms: Tensor = torch.linalg.vector_norm(one, dim=0) * torch.linalg.vector_norm(other, dim=0)
    return ((one * other).sum(0) / norms.clamp_min(1e-20)).clamp(0.0, 1.0)


def _fit_linear(module: nn.Module, layer_input: Tensor, rows: Rows, targets: Tensor, ridge: float) -> None:
    """Fit a linear or convolutional layer to the target rows, group by group."""
    weight, bias = module._parameters["weight"], module._parameters.get("bias")
    assert weight is not None
    groups = int(getattr(module, "groups", 1))
    regression = Ridge(
        weight.reshape(groups, weight.shape[0] // groups, -1), None if bias is None else bias.reshape(groups, -1)
    )
    for where, patches in rows.patches(module, layer_input):
        regression.add(patches, targets[where].reshape(len(patches), groups, -1))
    regression.solve(ridge, weight, bias)


def _fit_norm(module: nn.Module, layer_input: Tensor, rows: Rows, targets: Tensor, ridge: float) -> None:
    """Fit the scale and shift of each neuron of a normalisation layer to the target rows.

    The running statistics become those of the layer's inputs in the merged network.
    """
    weight, bias = module._parameters["weight"], module._parameters.get("bias")
    assert weight is not None
    scale, shift = weight.double(), torch.zeros_like(weight).double() if bias is None else bias.double()
    mean, variance = module._buffers.get("running_mean"), module._buffers.get("running_var")
    if mean is not None and variance is not None:
        inputs = rows_of(layer_input, channel_dim(module, layer_input)).double()
        epsilon = float(module.eps)  # type: ignore[arg-type]
        old = torch.sqrt(variance.double() + epsilon)
        now = torch.sqrt(inputs.var(0, correction=0) + epsilon)
        shift = shift + scale * (inputs.mean(0) - mean.double()) / old  # the same map, expressed by the new statistics
        scale = scale * now / old
        mean.copy_(inputs.mean(0))
        variance.copy_(inputs.var(0, correction=0))
    regression = Ridge(scale.reshape(-1, 1, 1), None if bias is None else shift.unsqueeze(-1))
    weight.fill_(1.0)
    if bias is not None:
        bias.zero_()
    output = module.forward(layer_input)
    normalised = rows.select(output, channel_dim(module, output))
    regression.add(normalised.unsqueeze(-1), targets.unsqueeze(-1))
    regression.solve(ridge, weight, bias)
