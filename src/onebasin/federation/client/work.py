"""What passes between the steps of a client: the work that a request asks for, and its result."""

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
    """A decoded request and the starting point of the local phase.

    client: the number of the client.
    message: the request.
    request: what it asks for.
    start: where training starts.
    own: the client starts from its own model.
    known_model: the weights to which the update is a delta; the server has them, too.
    order: the neuron order that the client must take first; None for none.
    broadcast: the version of the global model, if requests encode deltas; else None.
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
    """The result of the local phase.

    work: what was asked for.
    trained: the model after training, or the starting point if there was none.
    report: the client's numbers.
    sections: signatures, sketch and statistics, as far as they were requested.
    """

    work: Work
    trained: Trained
    report: Report
    sections: tuple[Section, ...] = ()
