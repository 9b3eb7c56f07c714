"""The base class of objectives: the loss that a client minimises in a local phase."""

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
    """A batch of one step.

    inputs, targets: the examples, [n, ...].
    outputs: the model's outputs, [n, classes], or [n, length, classes] for sequences.
    loss: mean cross-entropy of the outputs, a scalar.
    features: inputs of the model's last layer, [n, d]; None unless the objective sets `uses_features`.
    """

    inputs: Tensor
    targets: Tensor
    outputs: Tensor
    loss: Tensor
    features: Tensor | None


class Objective(Choice):
    """The loss that a client minimises in a local phase (setting `method.objective`).

    A file in `learning/objectives/`, or ``package.module:Name``, defines one.
    """

    exchange: ClassVar[str] = ""
    """``package.module:Name`` of the hook (`federation.hooks.hook.Hook`) that the objective needs; "" for none."""
    uses_features: ClassVar[bool] = False
    """Whether `loss` uses `Batch.features`."""
    keeps_memory: ClassVar[bool] = False
    """Whether each client keeps the tensors that `remember` returns for its next phase."""

    def loss(self, phase: LocalPhase, batch: Batch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        return batch.loss

    def adjust_gradients(self, phase: LocalPhase) -> None:
        """Change the parameters' gradients in place; called after each backward pass, without gradient tracking."""

    def remember(self, phase: LocalPhase) -> Tensors:
        """Return the tensors that the client keeps for its next phase; called only if `keeps_memory` is set."""
        return {}


OBJECTIVES: Registry[Objective] = Registry("objective", Objective, "onebasin.learning.objectives")
AnyObjective = Annotated[SerializeAsAny[Objective], OpenChoice(OBJECTIVES)]
