"""What a client minimises in a local phase: the base of every objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import SerializeAsAny
from torch import Tensor, nn

from onebasin.core.choices import OpenChoice
from onebasin.core.layout import Tensors
from onebasin.core.registry import Registry
from onebasin.core.settings import Choice


@dataclass
class LocalPhase:
    """One client's local phase, as its objective sees it.

    parameters: the trained parameters by name, whose values change from step to step. received: their values at the
    start of the phase. memory: what `Objective.remember` returned after this client's last phase; {} at first.
    correction: what the objective's exchange (`Objective.exchange`) brought for this phase; {} without one.
    """

    model: nn.Module
    parameters: Mapping[str, nn.Parameter]
    received: Tensors
    memory: Tensors = field(default_factory=dict)
    correction: Tensors = field(default_factory=dict)

    def features(self, inputs: Tensor, weights: Tensors | None = None) -> Tensor:
        """Return the inputs [n, d] of the model's last layer, with other weights where they are given."""
        from onebasin.learning.features import features_of

        return features_of(self.model, inputs, weights)


@dataclass(frozen=True)
class Batch:
    """A batch in a step. outputs, loss: of the model on it. features: [n, d], None unless the objective uses them."""

    inputs: Tensor
    targets: Tensor
    outputs: Tensor
    loss: Tensor
    features: Tensor | None


class Objective(Choice):
    """What a client minimises in a local phase.

    A file in `learning/objectives/`, or ``package.module:Name``, defines one.
    """

    exchange: ClassVar[str] = ""
    """``package.module:Name`` of the part of a round (`federation.hooks.hook.Hook`) that the objective adds, if any."""
    uses_features: ClassVar[bool] = False
    """Whether `loss` uses the features of its batch (`LocalPhase.features`)."""
    keeps_memory: ClassVar[bool] = False
    """Whether a client keeps what `remember` returns for its next phase."""

    def loss(self, phase: LocalPhase, batch: Batch) -> Tensor:
        """Return the loss (a scalar) whose gradient a step follows."""
        return batch.loss

    def adjust_gradients(self, phase: LocalPhase) -> None:
        """Change the parameters' gradients in place, after the backward pass of a step; without gradient tracking."""

    def remember(self, phase: LocalPhase) -> Tensors:
        """Return what this client keeps for its next phase, where the class sets `keeps_memory`."""
        return {}


OBJECTIVES: Registry[Objective] = Registry("objective", Objective, "onebasin.learning.objectives")
AnyObjective = Annotated[SerializeAsAny[Objective], OpenChoice(OBJECTIVES)]
