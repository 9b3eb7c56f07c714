"""What a client does in a round: the work that a request asks for, and the work when it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onebasin.core.layout import Tensors
from onebasin.federation.downlink_deltas import VersionedModel
from onebasin.federation.messages import Report, Request
from onebasin.learning.local_training import Start, Trained
from onebasin.wire.message import Message, Section

if TYPE_CHECKING:
    from onebasin.federation.neuron_messages import NewOrder


@dataclass(frozen=True)
class Work:
    """A decoded request: what to do in which round, from which starting point.

    own: the client begins with its own model. known_model: the model to which its update is a delta; the server has it,
    too. order: the neuron order that the client must take first. broadcast: the global model, where requests encode
    deltas.
    """

    client: int
    message: Message
    request: Request
    start: Start
    own: bool
    known_model: Tensors
    order: NewOrder | None = None
    broadcast: VersionedModel | None = None

    @property
    def round(self) -> int:
        return self.message.round


@dataclass(frozen=True)
class Done:
    """Work, done. sections: what else the client sends about its neurons and its inputs."""

    work: Work
    trained: Trained
    report: Report
    sections: tuple[Section, ...] = ()
