"""Exchange of control variates: requests have the server's, replies have the change of the client's own.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh: SCAFFOLD. ICML 2020 (arXiv 1910.06378), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import torch

from onebasin.codecs.context import CodingContext
from onebasin.core.layout import Tensors
from onebasin.core.state import State
from onebasin.federation.hooks.hook import Hook
from onebasin.learning.local_training import Trained
from onebasin.wire.error import WireError
from onebasin.wire.message import Kind, Message, Section

if TYPE_CHECKING:
    from onebasin.federation.client.work import Work
    from onebasin.federation.server.aggregation_buffer import AggregationBuffer


class ControlVariateExchange(Hook):
    """SCAFFOLD's control variates. The slot `control` is c in the server's state, and c_i in that of client i."""

    section: ClassVar[str] = "control"
    slots: ClassVar[tuple[str, ...]] = ("control",)

    def begin(self, state: State) -> None:
        state.slots["control"] = self._zeros()

    def request_sections(self, state: State) -> Iterator[Section]:
        protocol = self.context.protocol
        yield Section(Kind.UPDATE, self.section, protocol.downlink.body(state.slots["control"], CodingContext()))

    def decode(self, body: bytes) -> Tensors:
        return self.context.protocol.uplink.receive(body, CodingContext())

    def after_aggregation(self, slots: dict[str, Tensors], buffer: AggregationBuffer) -> None:
        """SCAFFOLD, algorithm 1, line 17: c + |S|/N * mean change; every reply has a weight of 1."""
        changes = buffer.extra(self.section)
        if changes.weight:
            mean, share = changes.result(), changes.weight / self.context.clients
            slots["control"] = {name: c + share * mean[name] for name, c in slots["control"].items()}

    def correction(self, message: Message, state: State) -> Tensors:
        common, own = self._received(message), self._own(state)
        return {name: c - own[name] for name, c in common.items()}

    def reply_sections(
        self, work: Work, trained: Trained, state: State, slots: dict[str, Tensors]
    ) -> Iterator[Section]:
        """Yield the encoded change of c_i (SCAFFOLD, eq. 4, option II), and change c_i as the server decodes it."""
        common, own = self._received(work.message), self._own(state)
        recipe = self.context.config.training
        rate = (recipe.warmup_recipe if work.own else recipe).rate(work.round)
        change = {
            name: (work.start.weights[name] - weight) / (trained.steps * rate) - common[name]
            for name, weight in trained.weights.items()
        }
        body, received = self.context.protocol.uplink.send(change, CodingContext())
        slots["control"] = {name: own[name] + received[name] for name in own}
        yield Section(Kind.UPDATE, self.section, body)

    def _received(self, message: Message) -> Tensors:
        section = message.section(self.section)
        if section is None:
            raise WireError("the order has no section 'control'")
        return self.context.protocol.downlink.receive(section.body, CodingContext())

    def _own(self, state: State) -> Tensors:
        return state.slots.get("control") or self._zeros()

    def _zeros(self) -> Tensors:
        return {entry.name: torch.zeros(entry.shape) for entry in self.context.protocol.parameters.entries}
