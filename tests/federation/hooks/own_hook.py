"""What a user brings: an objective that adds a part to every round, on both sides."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from onebasin.core.layout import Tensors
from onebasin.core.state import State
from onebasin.federation.client.work import Work
from onebasin.federation.hooks.hook import Hook
from onebasin.federation.messages import Report
from onebasin.federation.server.aggregation_buffer import AggregationBuffer
from onebasin.federation.server.replies import CheckedReply
from onebasin.learning.local_training import Trained
from onebasin.learning.objective import Objective
from onebasin.wire.message import Kind, Section


class Halved(Objective):
    """The client's own loss; its update is halved before it is sent, and the server keeps the mean of whole ones."""

    exchange: ClassVar[str] = "tests.federation.hooks.own_hook:Halving"


class Halving(Hook):
    """Sends half of the update as the update, and all of it beside that."""

    section: ClassVar[str] = "control"

    def begin(self, state: State) -> None:
        state.facts["rounds"] = 0

    def check(self, reply: CheckedReply) -> tuple[CheckedReply, str]:
        return reply, f"{reply.report.examples} examples"

    def decode(self, body: bytes) -> Tensors:
        return self.context.protocol.fp32.decode(body)

    def before_aggregation(self, state: State, buffer: AggregationBuffer, round: int) -> None:
        state.facts["rounds"] = round

    def after_aggregation(self, slots: dict[str, Tensors], buffer: AggregationBuffer) -> None:
        slots["whole"] = buffer.extra("control").result()

    def report(self, report: Report) -> Report:
        return replace(report, examples=report.examples + 100)

    def update(self, update: Tensors, facts: dict[str, Any], client: int, round: int) -> Tensors:
        facts["sent"] = facts.get("sent", 0) + 1
        return {name: value / 2 for name, value in update.items()}

    def reply_sections(
        self, work: Work, trained: Trained, state: State, slots: dict[str, Tensors]
    ) -> Iterator[Section]:
        whole = {name: value - work.known_model[name] for name, value in trained.weights.items()}
        slots["whole"] = whole
        yield Section(Kind.UPDATE, "control", self.context.protocol.fp32.encode(whole))
