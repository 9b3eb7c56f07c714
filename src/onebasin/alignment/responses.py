"""Activation matching: the responses of a model's neurons to probe inputs, which are matched as weights are.

Neurons of two models correspond if their responses correlate: Li, Yosinski, Clune, Lipson, Hopcroft: Convergent
Learning. ICLR 2016 (arXiv 1511.07543), section 2; Ainsworth et al. 2023 (arXiv 2209.04836), section 3.1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from onebasin.alignment.forward_hooks import forward, module_hooks
from onebasin.alignment.models import AlignmentError, StateDict, check_model
from onebasin.core.seeds import generator
from onebasin.symmetry.expressions import Expression, Fixed, label, leaves
from onebasin.symmetry.groups import TensorAxes
from onebasin.symmetry.spec import PermutationSpec

FEATURES = 256


class Responses:
    """The responses of a model's neurons to probe inputs, taken from the outputs of its modules.

    spec: the same groups, acting on the responses, so that `match`, `align` and `spec.apply` take responses as the
    tensors of a state. unseen: groups that are in no module's output, for example inside fused layers.
    """

    def __init__(
        self, spec: PermutationSpec, model: nn.Module, probes: object, features: int = FEATURES, seed: int = 0
    ) -> None:
        """Choose the modules and the positions to observe.

        probes: inputs for the model. features: number of responses of each neuron, at seeded positions of its module's
        output. A neuron in the outputs of several layers (a residual stream) has an equal number of responses from
        each.
        Errors: `AlignmentError` if no group is in any module's output, or the model does not take the probes.
        """
        if features < 1:
            raise AlignmentError(f"features: {features}; expected at least 1")
        self._model, self._probes = model, probes
        modules_by_group = dict(_observed_modules(spec))
        self._outputs = spec.outputs
        self.unseen = [group for group in spec.groups if group not in modules_by_group]
        groups_per_module = Counter(name for names in modules_by_group.values() for name in names)
        self._positions: dict[str, Tensor] = {}
        entries: dict[str, TensorAxes] = {}
        observed = list(groups_per_module)
        if not observed:
            raise AlignmentError("no module's output shows the neurons of any group; match by weights instead")
        features_per_module = {
            name: max(math.ceil(features / len(names)) for names in modules_by_group.values() if name in names)
            for name in observed
        }

        def choose_positions(name: str, module: nn.Module, output: Tensor) -> None:
            neurons, others = _neuron_dims(spec.outputs[name].axes)
            available = math.prod(output.shape[dim] for dim in others)
            rng = generator(seed, "positions", name)
            chosen = torch.randperm(available, generator=rng)[: features_per_module[name]].sort().values
            self._positions[name] = chosen
            axes: list[Expression] = [spec.outputs[name].axes[dim] for dim in neurons]
            entries[name] = TensorAxes((*axes, Fixed(len(chosen), "the response to a probe")))

        with module_hooks(model, observed, after=choose_positions):
            forward(model, model.state_dict(), probes)
        self.spec = PermutationSpec(spec.groups, {name: entries[name] for name in observed if name in entries})
        self._model_spec = spec

    def of(self, state: StateDict) -> dict[str, Tensor]:
        """Return the responses of the model with these weights: by module, [*axes of its neurons, features].

        The responses of each neuron have mean 0 and sum of squares 1, or are 0 if they do not vary.
        """
        check_model(self._model_spec, state, "model")
        found: dict[str, Tensor] = {}

        def record(name: str, module: nn.Module, output: Tensor) -> None:
            neurons, others = _neuron_dims(self._outputs[name].axes)
            rows = output.permute(*neurons, *others).flatten(len(neurons)).float()
            found[name] = standardised(rows[..., self._positions[name]])

        with module_hooks(self._model, list(self.spec.tensors), after=record):
            forward(self._model, state, self._probes)
        return {name: found[name] for name in self.spec.tensors}


def standardised(responses: Tensor) -> Tensor:
    """Return each row (along the last axis) with mean 0 and sum of squares 1. A row that does not vary becomes 0."""
    centred = responses - responses.mean(-1, keepdim=True)
    norms = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    floor = 1e-6 * torch.linalg.vector_norm(responses, dim=-1, keepdim=True) + 1e-30
    return torch.where(norms > floor, centred / norms.clamp_min(1e-30), 0.0)


def _observed_modules(spec: PermutationSpec) -> Iterator[tuple[str, list[str]]]:
    """Yield each group that is in an output, with its modules to observe: those that produce it, or else the first.

    A module produces a group if one of its weight matrices has the group on an axis.
    """
    for group in spec.groups:
        outputs = list(dict.fromkeys(each.tensor for each in spec.occurrences(group, outputs=True)))
        producers = {
            each.tensor.rpartition(".")[0]
            for each in spec.occurrences(group)
            if len(spec.tensors[each.tensor].axes) > 1
        }
        produced = [name for name in outputs if name in producers]
        if produced or outputs:
            yield group, produced or outputs[:1]


def _neuron_dims(axes: tuple[Expression, ...]) -> tuple[list[int], list[int]]:
    """The dimensions of an output along neurons or their outer groups, and the others (probes and positions)."""
    neurons = [dim for dim, axis in enumerate(axes) if any(label(leaf) is not None for leaf in leaves(axis))]
    return neurons, [dim for dim in range(len(axes)) if dim not in neurons]
