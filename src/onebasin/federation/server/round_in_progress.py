"""A round in progress: what was requested, what was received, and the neuron orders that were found."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onebasin.core.clients import ClientId
from onebasin.core.layout import Tensors
from onebasin.core.state import State
from onebasin.federation.messages import Request
from onebasin.federation.round_result import RoundResult
from onebasin.federation.server.aggregation_buffer import AggregationBuffer

if TYPE_CHECKING:
    from onebasin.symmetry.spec import Perms

PREFIX = "round/"
"""The prefix of the slots and facts of a round in progress in a saved server."""


@dataclass
class RoundInProgress:
    """The part of the server's state that ends with the round.

    result: reports, failures and remarks so far.
    buffer: the replies that were accepted so far.
    requests: what each client was asked for in the current exchange; clients that have replied are removed.
    orders: the permutations of clients' models to the common neuron order that were found in this round.
    """

    result: RoundResult
    buffer: AggregationBuffer
    requests: dict[ClientId, Request] = field(default_factory=dict)
    orders: dict[ClientId, Perms] = field(default_factory=dict)

    def into(self, state: State) -> State:
        """Return the server's state together with the round."""
        buffer = self.buffer.to_state()
        slots: dict[str, Tensors] = {f"{PREFIX}buffer/{slot}": tensors for slot, tensors in buffer.slots.items()}
        slots |= {f"{PREFIX}order/{client}": perms for client, perms in self.orders.items()}
        facts = {
            f"{PREFIX}result": self.result.to_facts(),
            f"{PREFIX}buffer": buffer.facts,
            f"{PREFIX}requests": [[client, int(request)] for client, request in self.requests.items()],
            f"{PREFIX}orders": list(self.orders),
        }
        return State({**state.slots, **slots}, deepcopy({**state.facts, **facts}))

    @classmethod
    def out_of(cls, state: State, buffer: AggregationBuffer) -> tuple[RoundInProgress, State]:
        """Return the round that `into` wrote, and the state without it. buffer: empty; it is filled."""
        state = State(state.slots, deepcopy(state.facts))
        inner = f"{PREFIX}buffer/"
        slots = {slot.removeprefix(inner): tensors for slot, tensors in state.slots.items() if slot.startswith(inner)}
        buffer.fill(State(slots, state.facts[f"{PREFIX}buffer"]))
        round = cls(
            RoundResult.from_facts(state.facts[f"{PREFIX}result"]),
            buffer,
            {client: Request(request) for client, request in state.facts[f"{PREFIX}requests"]},
            {client: state.slots[f"{PREFIX}order/{client}"] for client in state.facts[f"{PREFIX}orders"]},
        )
        rest = State(
            {slot: tensors for slot, tensors in state.slots.items() if not slot.startswith(PREFIX)},
            {fact: value for fact, value in state.facts.items() if not fact.startswith(PREFIX)},
        )
        return round, rest
