"""How the server turns the replies of a round into the next model: the base of every aggregation rule."""

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
"""The server's tensors by role: `weights`, `buffers`, and what a rule remembers."""

RESERVED = frozenset({"weights", "buffers", "control", "sketches", "held", "moved", "log"})
"""Slots of the server that no rule may use for its memory."""


class TooFewReplies(ValueError):
    """Fewer replies than a rule needs."""


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
    """What a rule that sees each model may use to merge them.

    model: a workspace. inputs: returns the probe inputs [n, ...]. sketches: the clients' descriptions of their inputs.
    spec: returns the model's permutations. seed: of the rule's own draws.
    """

    model: nn.Module
    inputs: Callable[[], Tensor]
    sketches: Mapping[ClientId, Sketch]
    spec: Callable[[], PermutationSpec]
    seed: int


@dataclass(frozen=True)
class Merged:
    """One model from those of several clients. left_out: clients whose models were left out as a whole.

    complete: the model is the server's next one as it is; else its difference to the last one goes through `step`.
    """

    state: Tensors
    left_out: Sequence[ClientId] = ()
    complete: bool = False


class AggregationRule(Choice):
    """How the server turns the replies of a round into the next model (setting `method.combine`).

    By default updates are averaged as they come, and `step` applies their weighted mean. A rule with `sees_each_model`
    gets the models of a round one by one in `merge`. A file in `methods/aggregation/`, or ``package.module:Name``,
    defines one.
    """

    sees_each_model: ClassVar[bool] = False
    """Whether `merge` needs the models one by one; the server then holds as many as clients replied."""
    is_robust: ClassVar[bool] = False
    """Whether it bounds what a hostile client can do to the mean of updates."""
    uses_probes: ClassVar[bool] = False
    """Whether `merge` uses probe inputs."""
    is_forwardable: ClassVar[bool] = False
    """Whether clients can apply it themselves to forwarded updates (`downlink="relay"`).

    Such a rule has no `memory` and no `prepare`, and does not use `Mean.steps`.
    """
    personal_models: ClassVar[bool] = False
    """Whether the server's tensors are what the clients' models have in common, and each client has its own."""
    exchange: ClassVar[str] = ""
    """``package.module:Name`` of the part of a round (`federation.hooks.hook.Hook`) that the rule adds, if any."""
    mask_form: ClassVar[str] = ""
    """What masks it averages: "probability", "sign" or "backbone" (`Parametrization.mask_form`); "" for updates."""

    @property
    def uses_sketches(self) -> bool:
        """Return whether `merge` uses the clients' descriptions of their inputs."""
        return False

    def minimum_replies(self, replies: int) -> int:
        """Return how many replies it needs where so many are expected; the reason is in `why_minimum`."""
        return 1

    def why_minimum(self, replies: int) -> str:
        """Return what needs so many replies, as the subject of a sentence."""
        return f"combine={self.kind!r}"

    def require_replies(self, replies: int) -> None:
        """Raise `TooFewReplies` where it cannot do with so many."""
        least = self.minimum_replies(replies)
        if replies < least:
            raise TooFewReplies(f"{self.why_minimum(replies)} needs {least} replies or more; there are {replies}")

    def memory(self, weights: Tensors) -> Slots:
        """Return what it remembers before its first step, by slot; each slot has the layout of the weights."""
        return {}

    def prepare(self, update: Tensors, steps: int) -> Tensors:
        """Return what one client's update, made in so many local steps, contributes to the mean."""
        return update

    def merge(self, models: Sequence[ClientModel], context: MergeContext) -> Merged:
        """Return one model from several; `TooFewReplies`. By default their weighted average."""
        from onebasin.alignment.merging import average

        return Merged(average([one.state for one in models], [one.weight for one in models]))

    def merges(self, round: int, fresh: bool) -> bool:
        """Return whether `merge` is used in a round; fresh: some models never were part of the global one.

        Where it is not, the models' weighted average takes its place.
        """
        return True

    def step(self, slots: Slots, mean: Mean) -> Slots:
        """Return the slots that change: `weights` and the rule's memory. `slots` has them as they were."""
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


def apply_rule(rule: AggregationRule, slots: Slots, mean: Mean, part: Tensors | None = None) -> Slots:
    """Return the slots after a rule's step; `slots` is not changed.

    part: which values the round's updates cover, booleans by parameter; the others, and what the rule remembers of
    them, stay as they are (each fragment of Streaming DiLoCo has an optimiser of its own). None for all.
    """
    before = {**first_memory(rule, slots["weights"]), **slots}
    changed = rule.step(before, mean)
    if part is not None:
        changed = {
            slot: {name: torch.where(part[name], value, before[slot][name]) for name, value in tensors.items()}
            for slot, tensors in changed.items()
        }
    return {**before, **changed}


def added(slots: Slots, update: Tensors, rate: float = 1.0) -> Slots:
    """Return the weights plus `rate` times an update."""
    weights = slots["weights"]
    return {"weights": each(weights, lambda n: weights[n] + rate * update[n])}


def each(names: Mapping[str, Tensor], value: Callable[[str], Tensor]) -> Tensors:
    """Return one tensor for each name."""
    return {name: value(name) for name in names}


def filled(like: Tensors, value: float) -> Tensors:
    """Return tensors of the same shapes with one value."""
    return {name: torch.full_like(tensor, value) for name, tensor in like.items()}
