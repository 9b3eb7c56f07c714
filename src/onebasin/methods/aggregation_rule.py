"""The base class of aggregation rules: how the server makes the next global model from the replies of a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import SerializeAsAny
from torch import Tensor, nn

from onebasin.core.choices import OpenChoice
from onebasin.core.clients import ClientId
from onebasin.core.layout import Tensors
from onebasin.core.registry import Registry
from onebasin.core.settings import Choice, ConfigError

if TYPE_CHECKING:
    from onebasin.alignment.sketches import Sketch
    from onebasin.symmetry.spec import PermutationSpec

Slots = dict[str, Tensors]
"""The server's tensors by slot: `weights`, `buffers`, and the memory of a rule, such as `momentum`."""

RESERVED = frozenset({"weights", "buffers", "control", "sketches", "held", "moved", "log"})
"""Slots that the server uses itself, so that no rule can have them for its memory."""


class TooFewReplies(ValueError):
    """A round has fewer replies than the rule needs."""


@dataclass(frozen=True)
class Mean:
    """The weighted mean of a round's updates, as `AggregationRule.step` gets it.

    update: the mean by parameter. weight: the sum of the clients' weights; where all count alike, their number.
    steps: the weighted mean of the numbers of local steps. share: how many of the run's clients sent an update, from 0
    to 1.
    """

    update: Tensors
    weight: float = 1.0
    steps: float = 1.0
    share: float = 1.0


@dataclass
class ClientModel:
    """A client's whole model in a round, in the server's neuron order.

    joined: the client began the round with the global model, and not with one of its own. steps: its local steps.
    """

    client: ClientId
    weight: float
    weights: Tensors
    buffers: Tensors
    joined: bool
    steps: int = 0

    @property
    def state(self) -> Tensors:
        return self.weights | self.buffers


@dataclass(frozen=True)
class MergeContext:
    """What a rule can use to merge models, beside the models themselves.

    model: a workspace of the architecture.
    inputs: returns the probe inputs [n, ...].
    sketches: of the clients' inputs, by client.
    spec: returns the permutation groups of the model.
    seed: of the rule's random choices.
    """

    model: nn.Module
    inputs: Callable[[], Tensor]
    sketches: Mapping[ClientId, Sketch]
    spec: Callable[[], PermutationSpec]
    seed: int


@dataclass(frozen=True)
class Merged:
    """The model that a rule made from those of several clients.

    state: parameters and buffers by name.
    left_out: clients whose models the rule did not use.
    complete: the state is the next global model; otherwise `step` is applied to its difference from the last one.
    """

    state: Tensors
    left_out: Sequence[ClientId] = ()
    complete: bool = False


class AggregationRule(Choice):
    """How the server makes the next global model from the replies of a round (setting `method.combine`).

    By default, updates are averaged as they arrive, and `step` applies their weighted mean. A rule that sets
    `sees_each_model` gets all models of a round in `merge`; `step` then applies the difference between the merged model
    and the last global one. A file in `methods/aggregation/`, or ``package.module:Name``, defines one.
    """

    sees_each_model: ClassVar[bool] = False
    """Whether `merge` needs every model of a round; the server then keeps them all in memory until the round ends."""
    is_robust: ClassVar[bool] = False
    """Whether it bounds the influence of a hostile client."""
    uses_probes: ClassVar[bool] = False
    """Whether `merge` uses probe inputs."""
    is_forwardable: ClassVar[bool] = False
    """Whether clients can apply it themselves to forwarded updates (`downlink="relay"`).

    Such a rule has no `memory` and no `prepare`, and does not use `Mean.steps`.
    """
    personal_models: ClassVar[bool] = False
    """Whether each client keeps its own model, and the server's tensors are what these have in common."""
    exchange: ClassVar[str] = ""
    """``package.module:Name`` of the hook (`federation.hooks.hook.Hook`) that the rule needs; "" for none."""
    mask_form: ClassVar[str] = ""
    """The masks that it averages: "probability", "sign" or "backbone" (`Parametrization.mask_form`); "" for updates."""

    @property
    def uses_sketches(self) -> bool:
        """Whether `merge` uses the sketches of the clients' inputs."""
        return False

    def minimum_replies(self, replies: int) -> int:
        """Return the smallest number of replies that the rule can use, if this many are expected."""
        return 1

    def why_minimum(self, replies: int) -> str:
        """Return what needs `minimum_replies`, as the subject of a sentence."""
        return f"combine={self.kind!r}"

    def require_replies(self, replies: int) -> None:
        """Raise TooFewReplies if the rule needs more than this many replies."""
        least = self.minimum_replies(replies)
        if replies < least:
            raise TooFewReplies(f"{self.why_minimum(replies)} needs {least} replies or more; there are {replies}")

    def memory(self, weights: Tensors) -> Slots:
        """Return the rule's memory before its first step, by slot; each slot has the layout of the weights."""
        return {}

    def prepare(self, update: Tensors, steps: int) -> Tensors:
        """Return what one client's update, the result of `steps` local steps, contributes to the mean."""
        return update

    def merge(self, models: Sequence[ClientModel], context: MergeContext) -> Merged:
        """Return one model from those of the clients; by default their weighted average.

        Raises TooFewReplies if there are too few models.
        """
        from onebasin.alignment.merging import average

        return Merged(average([one.state for one in models], [one.weight for one in models]))

    def merges(self, round: int, new_models: bool) -> bool:
        """Return whether `merge` is used in a round; otherwise the models are averaged.

        new_models: some clients bring a model of their own that was never aggregated.
        """
        return True

    def step(self, slots: Slots, mean: Mean) -> Slots:
        """Return the slots that change, `weights` and the rule's memory, from those before the round."""
        raise NotImplementedError


AGGREGATION_RULES: Registry[AggregationRule] = Registry("combine", AggregationRule, "onebasin.methods.aggregation")
AnyAggregationRule = Annotated[SerializeAsAny[AggregationRule], OpenChoice(AGGREGATION_RULES)]


def first_memory(rule: AggregationRule, weights: Tensors) -> Slots:
    """Return what a rule remembers before its first step; `ConfigError` where that takes a slot of the server's."""
    memory = rule.memory(weights)
    taken = memory.keys() & RESERVED
    if taken:
        raise ConfigError(f"method.combine: got {rule.kind!r}; its memory uses {min(taken)!r}, a slot of the server's")
    return memory


def apply_rule(rule: AggregationRule, slots: Slots, mean: Mean, covered: Tensors | None = None) -> Slots:
    """Return the slots after a rule's step; `slots` is not changed.

    covered: which values the round's updates contain, booleans by parameter; None for all. The other values, and the
    rule's memory of them, do not change (in Streaming DiLoCo, each fragment has an outer optimiser of its own).
    Raises ConfigError if the rule's memory uses a slot of the server.
    """
    before = {**first_memory(rule, slots["weights"]), **slots}
    changed = rule.step(before, mean)
    if covered is not None:
        changed = {
            slot: {name: torch.where(covered[name], value, before[slot][name]) for name, value in tensors.items()}
            for slot, tensors in changed.items()
        }
    return {**before, **changed}


def added(slots: Slots, update: Tensors, rate: float = 1.0) -> Slots:
    """Return the slot `weights` plus `rate` times an update."""
    weights = slots["weights"]
    return {"weights": each(weights, lambda n: weights[n] + rate * update[n])}


def each(names: Mapping[str, Tensor], value: Callable[[str], Tensor]) -> Tensors:
    """Return the tensor `value(name)` for each name."""
    return {name: value(name) for name in names}


def filled(like: Tensors, value: float) -> Tensors:
    """Return tensors in the shapes of `like`, filled with one value."""
    return {name: torch.full_like(tensor, value) for name, tensor in like.items()}
