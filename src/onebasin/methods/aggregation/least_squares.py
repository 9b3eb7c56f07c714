"""Fit the merged model to the clients' outputs on probe inputs, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from onebasin.core.settings import Positive
from onebasin.methods.aggregation_rule import AggregationRule, ClientModel, Mean, MergeContext, Merged, Slots, added


class LeastSquares(AggregationRule):
    """The weights that reproduce the clients' outputs on probe inputs, layer by layer (alignment/least_squares.py).

    targets: the `mean` of the clients' outputs, or `experts`: each client counts on the classes and inputs that it
    knows. agreement: a client's output of a neuron counts by its correlation with that of the client with most data, to
    this power; "auto": 0, 2 or 8, whichever leaves the smaller error on every second probe input, which real inputs
    measure well and synthetic ones badly.
    balance: rescale neurons so that incoming and outgoing weights have equal norms, which leaves the function as it is:
    for models that are trained on at a high rate (alignment/rescaling.py).
    distil: steps of gradient descent towards the targets on the same inputs, afterwards (alignment/distillation.py).
    rounds: use it in the first so many rounds, and the mean afterwards; 0: in all; `meetings`: in the rounds in which a
    client's own model joins the global one, or all do.
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

    def merges(self, round: int, fresh: bool) -> bool:
        if self.rounds == "meetings":
            return fresh
        return not self.rounds or round <= self.rounds

    def merge(self, models: Sequence[ClientModel], context: MergeContext) -> Merged:
        from onebasin.methods.aggregation._fit import fitted_model  # alignment is for servers alone

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
