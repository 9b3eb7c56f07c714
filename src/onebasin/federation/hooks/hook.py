"""The base class of hooks: what a choice of the method adds to a round, on both sides.

An objective, an aggregation rule, a norm bound or privacy settings name their hook by reference (`exchange`). So
settings need not import `federation`, and users can write hooks of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from onebasin.core.layout import Tensors
from onebasin.core.references import resolve
from onebasin.core.state import State
from onebasin.learning.local_training import Start, Trained
from onebasin.wire.message import Message, Section

if TYPE_CHECKING:
    from onebasin.federation.client.work import Work
    from onebasin.federation.messages import Report
    from onebasin.federation.protocol import Protocol
    from onebasin.federation.run_config import RunConfig
    from onebasin.federation.server.aggregation_buffer import AggregationBuffer
    from onebasin.federation.server.replies import CheckedReply


@dataclass(frozen=True)
class HookContext:
    """What every hook knows: the run's configuration, its protocol and the number of its clients."""

    config: RunConfig
    protocol: Protocol
    clients: int


@dataclass(frozen=True)
class StartingPoint:
    """The model from which a client starts.

    weights, buffers: of the model.
    known_model: the weights to which the client's update is a delta; the server has them, too.
    own: the model is the client's own, not the global one.
    """

    weights: Tensors
    buffers: Tensors
    known_model: Tensors
    own: bool


class Hook:
    """What a choice adds to a round at the server and at the clients. By default, every method does nothing.

    A hook has no state: what it keeps from round to round is in the server's or the client's `State`.
    """

    section: ClassVar[str] = ""
    """The name of the section that it adds to requests to train, and to replies to these; "" for none."""
    keeps_model: ClassVar[bool] = False
    """Whether each client keeps its trained model after a round."""

    def __init__(self, context: HookContext) -> None:
        self.context = context

    # The server

    def begin(self, state: State) -> None:
        """Change the server's state before the first round.

        The slot `weights` has the initial global model, unless clients start from their own models.
        """

    def model_sections(self, state: State) -> Iterator[Section]:
        """Yield the sections before the global model in a request, if the model is sent by its values."""
        yield from ()

    def request_sections(self, state: State) -> Iterator[Section]:
        """Yield the sections that requests to train have beside the model."""
        yield from ()

    def check(self, reply: CheckedReply) -> tuple[CheckedReply, str]:
        """Return the reply that is aggregated in the place of a decoded one, and a remark, "" for none.

        Raises WireError to refuse the reply.
        """
        return reply, ""

    def decode(self, body: bytes) -> Tensors:
        """Decode the hook's section of a reply to tensors by parameter, whose mean is in `buffer.extra(section)`.

        Raises WireError if it is malformed.
        """
        raise NotImplementedError

    def before_aggregation(self, state: State, buffer: AggregationBuffer, round: int) -> None:
        """Change the server's state or the buffer, after the last reply of a round."""

    def after_aggregation(self, slots: dict[str, Tensors], buffer: AggregationBuffer, replies: int) -> None:
        """Change the slots of the server's next state. replies: the number of replies of the round."""

    # The client

    def starting_point(self, point: StartingPoint, message: Message, state: State) -> StartingPoint:
        """Return the starting point of the local phase, in the place of the one in the request.

        Raises WireError if the request lacks what the hook needs.
        """
        return point

    def correction(self, message: Message, state: State) -> Tensors:
        """Return tensors by parameter for `LocalPhase.correction`, from a request; {} for none."""
        return {}

    def after_training(self, client: int, round: int, start: Start, trained: Trained) -> Trained:
        """Return the result of the local phase that is used in the place of `trained`."""
        return trained

    def report(self, report: Report) -> Report:
        """Return the report that is sent in the place of the client's true numbers."""
        return report

    def update(self, update: Tensors, facts: dict[str, Any], client: int, round: int) -> Tensors:
        """Return the update that is encoded in the place of `update`. facts: of the client's next state; may change."""
        return update

    def reply_sections(
        self, work: Work, trained: Trained, state: State, slots: dict[str, Tensors]
    ) -> Iterator[Section]:
        """Yield the hook's section of a reply to a request to train.

        state: the client's state before the round. slots: of its next state; may change.
        """
        yield from ()


def hooks_of(context: HookContext) -> list[Hook]:
    """Return the hooks that the choices of a configuration name, in the order in which they act on a reply."""
    method, attack = context.config.method, context.config.federation.attack
    choices: list[Any]
    if not method.federated:
        choices = [attack]
    else:
        choices = [attack, method.objective, method.combine, method.privacy, method.norm_bound]
    return [resolve(choice.exchange)(context) for choice in choices if choice is not None and choice.exchange]
