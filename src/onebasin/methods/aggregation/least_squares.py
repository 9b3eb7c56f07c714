"""Fit the merged model to the clients' outputs on probe inputs, layer by layer (alignment/least_squares.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from onebasin.core.settings import Positive
from onebasin.methods.aggregation_rule import AggregationRule, ClientModel, Mean, MergeContext, Merged, Slots, added


class LeastSquares(AggregationRule):
    """The weights that reproduce the clients' outputs on probe inputs, layer by layer.

    ridge: penalty on the distance from the averaged weights.
    targets: what the whole model should return on the probe inputs. `mean`: the mean of the clients' outputs;
    `experts`: a mixture in which each client counts for the classes and inputs that it knows
    (alignment/ensemble_targets.py).
    agreement: a client's weight for a neuron is multiplied by the correlation of its output with that of the client
    with the largest weight, to this power. "auto": 0, 2 or 8, the one with the smallest error on every second probe
    input; real inputs measure this error well, synthetic ones badly.
    balance: whether to rescale neurons so that incoming and outgoing weights are equally large
    (alignment/rescaling.py). The function is unchanged; it helps if the model is trained further at a high rate.
    distil: steps of gradient descent towards the targets on the same inputs, afterwards (alignment/distillation.py).
    rounds: the number of first rounds that use this rule; the others average. 0: all rounds; `meetings`: the rounds in
    which a client brings a model of its own that was never aggregated.
    """

    sees_each_model: ClassVar[bool] = True
    uses_probes: ClassVar[bool] = True

    kind: Literal["least-squares"] = "least-squares"
    ridge: Positive = 0.003
    targets: Literal["mean", "experts"] = "experts"
    agreement: Annotated[float, Field(ge=0)] | Literal["auto"] = 2.0
    balance: bool = False
    distil: Annotated[int, Field(ge=0)] = 0
    rounds: Annotated[int, Field(ge=0)] | Literal["meetings"] = 0

    @property
    def uses_sketches(self) -> bool:
        return self.targets == "experts"

    def merges(self, round: int, new_models: bool) -> bool:
        if self.rounds == "meetings":
            return new_models
        return not self.rounds or round <= self.rounds

    def merge(self, models: Sequence[ClientModel], context: MergeContext) -> Merged:
        from onebasin.methods.aggregation._fit import fitted_model  # clients need not load `alignment`

        state = fitted_model(
            models,
            context,
            targets=self.targets,
            ridge=self.ridge,
            agreement=self.agreement,
            balanced=self.balance,
            steps=self.distil,
        )
        return Merged(state, complete=True)

    def step(self, slots: Slots, mean: Mean) -> Slots:
        return added(slots, mean.update)
