"""Responses: what the neurons of a model say to probe inputs. They are matched as weights are, by the same code.

A neuron of two models is the same where it responds alike: Li, Yosinski, Clune, Lipson, Hopcroft: Convergent Learning.
ICLR 2016 (arXiv 1511.07543), section 2; Ainsworth et al. 2023 (arXiv 2209.04836), section 3.1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from onebasin.alignment.forward_hooks import forward, watched
from onebasin.alignment.models import AlignmentError, State, check_model
from onebasin.core.seeds import generator
from onebasin.symmetry.expressions import Expression, Fixed, label, leaves
from onebasin.symmetry.groups import TensorAxes
from onebasin.symmetry.spec import PermutationSpec

FEATURES = 256


class Responses:
    """Where a model's neurons are watched, and what each of them says there.

    spec: the same groups, acting on the responses, so that `match`, `align` and `spec.apply` take them for tensors of
    a state. unseen: groups of which no module's output shows the neurons (inside fused layers, say).
    """

    def __init__(
        self, spec: PermutationSpec, model: nn.Module, probes: object, features: int = FEATURES, seed: int = 0
    ) -> None:
        """probes: inputs for the model. features: responses of a neuron, at seeded positions of its module's output.

        A neuron that shows in the outputs of several layers (a residual stream) has an equal share of them from each.
        `AlignmentError` if no group shows in any module's output, or the model does not take the probes.
        """
        if features < 1:
            raise AlignmentError(f"features: {features}; expected at least 1")
        self._model, self._probes = model, probes
        places = dict(_places(spec))
        self._outputs = spec.outputs
        self.unseen = [group for group in spec.groups if group not in places]
        shares = Counter(name for names in places.values() for name in names)
        self._positions: dict[str, Tensor] = {}
        entries: dict[str, TensorAxes] = {}
        watchers = list(shares)
        if not watchers:
            raise AlignmentError("no module's output shows the neurons of any group; match by weights instead")
        share = {
            name: max(math.ceil(features / len(names)) for names in places.values() if name in names)
            for name in watchers
        }

        def measure(name: str, module: nn.Module, output: Tensor) -> None:
            neurons, others = _split(spec.outputs[name].axes)
            available = math.prod(output.shape[dim] for dim in others)
            draws = generator(seed, "positions", name)
            chosen = torch.randperm(available, generator=draws)[: share[name]].sort().values
            self._positions[name] = chosen
            axes: list[Expression] = [spec.outputs[name].axes[dim] for dim in neurons]
            entries[name] = TensorAxes((*axes, Fixed(len(chosen), "the response to a probe")))

        with watched(model, watchers, after=measure):
            forward(model, model.state_dict(), probes)
        self.spec = PermutationSpec(spec.groups, {name: entries[name] for name in watchers if name in entries})
        self._whole = spec

    def of(self, state: State) -> dict[str, Tensor]:
        """Return the responses of the model with these weights: by module, [*its neurons' axes, features].

        Each neuron's have mean 0 and sum of squares 1, or are 0 where it always says the same.
        """
        check_model(self._whole, state, "model")
        found: dict[str, Tensor] = {}

        def keep(name: str, module: nn.Module, output: Tensor) -> None:
            neurons, others = _split(self._outputs[name].axes)
            rows = output.permute(*neurons, *others).flatten(len(neurons)).float()
            found[name] = standardised(rows[..., self._positions[name]])

        with watched(self._model, list(self.spec.tensors), after=keep):
            forward(self._model, state, self._probes)
        return {name: found[name] for name in self.spec.tensors}


def standardised(responses: Tensor) -> Tensor:
    """Return each row with mean 0 and sum of squares 1; a row that does not vary becomes 0. Rows: the last axis."""
    centred = responses - responses.mean(-1, keepdim=True)
    norms = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    floor = 1e-6 * torch.linalg.vector_norm(responses, dim=-1, keepdim=True) + 1e-30
    return torch.where(norms > floor, centred / norms.clamp_min(1e-30), 0.0)


def _places(spec: PermutationSpec) -> Iterator[tuple[str, list[str]]]:
    """For each group that shows: the modules to watch, those whose own matrices make its neurons if there are any."""
    for group in spec.groups:
        shown = list(dict.fromkeys(each.tensor for each in spec.occurrences(group, outputs=True)))
        makers = {
            each.tensor.rpartition(".")[0]
            for each in spec.occurrences(group)
            if len(spec.tensors[each.tensor].axes) > 1
        }
        made = [name for name in shown if name in makers]
        if made or shown:
            yield group, made or shown[:1]


def _split(axes: tuple[Expression, ...]) -> tuple[list[int], list[int]]:
    """The axes that neurons, or what they lie within, stand on; and the others: probes and positions."""
    neurons = [dim for dim, axis in enumerate(axes) if any(label(leaf) is not None for leaf in leaves(axis))]
    return neurons, [dim for dim in range(len(axes)) if dim not in neurons]
