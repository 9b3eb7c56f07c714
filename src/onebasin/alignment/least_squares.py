"""Layer-wise least squares: a merged network that says, layer by layer, what the aligned clients say on average.

Averaging aligned weights shrinks what neurons that match imperfectly have to say, and every layer passes the loss on.
So the layers are fitted in the order in which they are used: each gets the weights that reproduce the clients' mean
output from what the *merged* network feeds it, by ridge regression towards the averaged weights. Probe inputs need no
labels, and may be synthetic. Relatives: Jin, Ren, Preotiuc-Pietro, Cheng: Dataless Knowledge Fusion by Merging Weights.
ICLR 2023 (arXiv 2212.09849), section 3 (RegMean); Nasery, Hayase, Koh, Oh: PLeaS. 2024 (arXiv 2407.02447).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from onebasin.alignment.forward_hooks import forward, watched
from onebasin.alignment.layers import Rows, channel_dim, fitted_layers, is_linear, rows_of
from onebasin.alignment.merging import average, shares
from onebasin.alignment.models import AlignmentError, State, check_finite, each_once, named_like, trained
from onebasin.alignment.recurrence import by_sequence, fit_gates, listen, recurrent_layers
from onebasin.alignment.ridge import Ridge
from onebasin.core.seeds import generator

RIDGE = 0.003
AGREEMENT = 2.0
MOST_ROWS = 20_000


def least_squares(
    model: nn.Module,
    states: Sequence[State],
    inputs: object,
    weights: Sequence[float] | None = None,
    *,
    ridge: float = RIDGE,
    anchor: int | None = None,
    agreement: float = AGREEMENT,
    teach: Tensor | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return one model's state that reproduces, layer by layer, the mean outputs of models in one neuron order.

    states: aligned (`spec.apply(state, perms)`). inputs: probes, all in one batch. weights: how much each model counts.
    ridge: pull towards the averaged weights, in units of the mean square of a layer's inputs.
    anchor: the model whose neurons the others are compared with: a model's word on a neuron counts as much as its own
    neuron agrees with the anchor's (their correlation on the probes, to the power of `agreement`: 2 is the share of
    the variance that one explains of the other; where it is large, the anchor's neurons remain). None: it counts fully.
    teach: what the whole model should return for the inputs instead of the mean output (see `experts.consult`).
    Embeddings, transposed layers, weights that layers share, and recurrent layers that are given a first state, packed
    sequences or single ones, keep their average; so does what the probes do not reach. Errors: `AlignmentError`, also
    where what the models say of the probes is so large that no finite weights follow.
    """
    if len(states) == 0 or (anchor is not None and not 0 <= anchor < len(states)):
        raise AlignmentError(f"anchor: {anchor} of {len(states)} models; expected one of them")
    if not agreement >= 0:
        raise AlignmentError(f"agreement: {agreement}; expected 0 or more")
    if not ridge > 0:
        raise AlignmentError(f"ridge: {ridge}; expected more than 0")
    for position, state in enumerate(states):
        check_finite(trained(model, state), f"model {position + 1} of {len(states)}")
    given, states = states[0], [each_once(model, state) for state in states]
    share = shares(len(states), weights)
    wanted = _mean_outputs(model, states, inputs, share, anchor, agreement, seed)
    if teach is not None:
        wanted.teach(teach)
    merged = {name: value.clone() for name, value in average(states, weights).items()}

    def fit(name: str, module: nn.Module, given: Tensor) -> None:
        rows, outputs = wanted.rows[name], wanted.outputs[name]
        if isinstance(module, nn.RNNBase):
            heard = by_sequence(module, given)[rows.examples]
            fit_gates(module, heard, outputs.reshape(*heard.shape[:2], -1), ridge)
        elif is_linear(module):
            _fit_linear(module, given, rows, outputs, ridge)
        else:
            _fit_norm(module, given, rows, outputs, ridge)

    with watched(model, wanted.outputs, before=fit):
        forward(model, merged, inputs)
    check_finite(trained(model, merged), "merged by least squares")
    return named_like(model, given, merged)


@dataclass
class _Wanted:
    """The mean outputs that the merged model should have, at some rows of each layer. last: the layer that returns."""

    rows: dict[str, Rows] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    last: str | None = None

    def teach(self, outputs: Tensor) -> None:
        """Replace what the last layer should say."""
        if self.last is None:
            raise AlignmentError("teach: the model does not return a fitted layer's output, so it cannot be taught one")
        rows = self.rows[self.last]
        if outputs.shape[-1] != self.outputs[self.last].shape[-1] or outputs[..., 0].numel() <= int(rows.indices.max()):
            raise AlignmentError(f"teach: shape {list(outputs.shape)} is not that of the model's output")
        self.outputs[self.last] = rows.of(outputs.float(), outputs.ndim - 1)


def _mean_outputs(
    model: nn.Module,
    states: Sequence[State],
    inputs: object,
    share: Sequence[float],
    anchor: int | None,
    agreement: float,
    seed: int,
) -> _Wanted:
    """One forward of each model; the anchor's first, so that the others can be compared with it."""
    wanted, layers, recurrent = _Wanted(), fitted_layers(model), recurrent_layers(model)
    draws = generator(seed, "rows")
    order = list(range(len(states)))
    if anchor is not None:
        order.remove(anchor)
        order.insert(0, anchor)
    reference: dict[str, Tensor] = {}
    total: dict[str, Tensor] = {}
    for index in order:
        for name, rows in _look(model, states[index], inputs, layers, recurrent, wanted, draws).items():
            weight = torch.tensor(share[index])
            if anchor is not None and name != wanted.last:
                weight = weight * _correlation(rows, reference.setdefault(name, rows)) ** agreement
            wanted.outputs[name] = wanted.outputs.get(name, 0.0) + weight * rows
            total[name] = total.get(name, 0.0) + weight
    wanted.outputs = {name: rows / total[name].clamp_min(1e-12) for name, rows in wanted.outputs.items()}
    return wanted


def _look(
    model: nn.Module,
    state: State,
    inputs: object,
    layers: Collection[str],
    recurrent: Collection[str],
    wanted: _Wanted,
    draws: torch.Generator,
) -> dict[str, Tensor]:
    """What a model's layers say, at the rows that are drawn when a layer is first seen; note which returns."""
    seen: dict[str, Tensor] = {}
    taken: dict[str, Tensor] = {}
    latest: list[tuple[str, Tensor]] = []

    def take(name: str, module: nn.Module, given: Tensor) -> None:
        taken[name] = given

    def hear(name: str, module: nn.RNNBase, output: Tensor) -> None:
        if name not in taken or taken[name].ndim != 3:
            return
        rows = wanted.rows.get(name) or Rows.whole(by_sequence(module, output), MOST_ROWS, draws)
        said, replayed = listen(module, by_sequence(module, taken[name])[rows.examples])
        if torch.allclose(replayed, by_sequence(module, output)[rows.examples], 1e-3, 1e-4):
            wanted.rows[name], seen[name] = rows, said.flatten(0, 1).float()

    def keep(name: str, module: nn.Module, output: Tensor) -> None:
        if isinstance(module, nn.RNNBase):
            hear(name, module, output)
            return
        dim = channel_dim(module, output)
        if name not in wanted.rows:
            wanted.rows[name] = Rows.drawn(output, dim, MOST_ROWS, draws)
        seen[name] = wanted.rows[name].of(output, dim).float()
        latest[:] = [(name, output)]

    with watched(model, recurrent, before=take), watched(model, [*layers, *recurrent], after=keep):
        returned = forward(model, state, inputs)
    if latest and latest[0][1] is returned:
        wanted.last = latest[0][0]
    return seen


def _correlation(rows: Tensor, reference: Tensor) -> Tensor:
    """The correlation of each column with the reference's, 0 where it is negative; 1 for itself."""
    if rows is reference:
        return torch.ones(rows.shape[1])
    one, other = rows - rows.mean(0), reference - reference.mean(0)
    norms: Tensor = torch.linalg.vector_norm(one, dim=0) * torch.linalg.vector_norm(other, dim=0)
    return ((one * other).sum(0) / norms.clamp_min(1e-20)).clamp(0.0, 1.0)


def _fit_linear(module: nn.Module, given: Tensor, rows: Rows, wanted: Tensor, ridge: float) -> None:
    """Ridge regression of the wanted rows on the layer's inputs, group by group."""
    weight, bias = module._parameters["weight"], module._parameters.get("bias")
    assert weight is not None
    groups = int(getattr(module, "groups", 1))
    regression = Ridge(
        weight.reshape(groups, weight.shape[0] // groups, -1), None if bias is None else bias.reshape(groups, -1)
    )
    for where, patches in rows.patches(module, given):
        regression.add(patches, wanted[where].reshape(len(patches), groups, -1))
    regression.solve(ridge, weight, bias)


def _fit_norm(module: nn.Module, given: Tensor, rows: Rows, wanted: Tensor, ridge: float) -> None:
    """The scale and shift of each neuron that bring the normalised inputs nearest to the wanted rows.

    Running statistics become those of the inputs that the merged network gives.
    """
    weight, bias = module._parameters["weight"], module._parameters.get("bias")
    assert weight is not None
    scale, shift = weight.double(), torch.zeros_like(weight).double() if bias is None else bias.double()
    mean, variance = module._buffers.get("running_mean"), module._buffers.get("running_var")
    if mean is not None and variance is not None:
        seen = rows_of(given, channel_dim(module, given)).double()
        epsilon = float(module.eps)  # type: ignore[arg-type]
        old = torch.sqrt(variance.double() + epsilon)
        now = torch.sqrt(seen.var(0, correction=0) + epsilon)
        shift = shift + scale * (seen.mean(0) - mean.double()) / old  # the same map, said of other statistics
        scale = scale * now / old
        mean.copy_(seen.mean(0))
        variance.copy_(seen.var(0, correction=0))
    regression = Ridge(scale.reshape(-1, 1, 1), None if bias is None else shift.unsqueeze(-1))
    weight.fill_(1.0)
    if bias is not None:
        bias.zero_()
    output = module.forward(given)
    normal = rows.of(output, channel_dim(module, output))
    regression.add(normal.unsqueeze(-1), wanted.unsqueeze(-1))
    regression.solve(ridge, weight, bias)
