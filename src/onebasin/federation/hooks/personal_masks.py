"""Personal masks (FedMask): each client starts a round from its own scores, adjusted to the server's signs.

Li, Sun, Zeng, Zhang, Li, Chen: FedMask. SenSys 2021 (doi 10.1145/3485730.3485929).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from onebasin.core.state import State
from onebasin.federation.hooks.hook import Hook, StartingPoint
from onebasin.federation.messages import read_seed, write_seed
from onebasin.methods.aggregation.overlap import Overlap, personal_scores, undecided_signs
from onebasin.wire.message import Message, Section


class PersonalMasks(Hook):
    """The server's `weights` are signs. A client without scores of its own starts from those of the run's seed."""

    keeps_model: ClassVar[bool] = True

    def begin(self, state: State) -> None:
        state.slots["weights"] = undecided_signs(state.slots["weights"])

    def model_sections(self, state: State) -> Iterator[Section]:
        yield write_seed(state.facts["base"])

    def starting_point(self, point: StartingPoint, message: Message, state: State) -> StartingPoint:
        rule = self.context.config.method.combine
        assert isinstance(rule, Overlap)
        if point.own:
            return point
        initial = self.context.protocol.initial_model(read_seed(message))[0]
        signs = undecided_signs(initial) if message.section("weights") is None else point.weights
        scores = personal_scores(rule, signs, state.slots.get("weights", initial))
        return replace(point, weights=scores, known_model=signs)
