"""The base class of hooks: what a choice of the method adds to a round, on both sides.

An objective, an aggregation rule, a norm bound or privacy settings name their hook by reference (`exchange`). So
settings need not import `federation`, and users can write hooks of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from onebasin.core.layout import Tensors
from onebasin.core.references import FactoryError, resolve
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


SECTIONS = ("control", "extra")
"""The names that a hook's section can have; each is for one hook of a run."""


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
    """The name of a section that requests to train have, and replies to them: one of `SECTIONS`; "" for none."""
    in_replies: ClassVar[bool] = True
    """Whether replies have the section; else requests alone have it."""
    slots: ClassVar[tuple[str, ...]] = ()
    """The slots that it keeps in the server's state; a round whose result is not finite in them does not count."""
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

    def after_aggregation(self, slots: dict[str, Tensors], buffer: AggregationBuffer) -> None:
        """Change the slots of the server's next state."""

    # The client

    def starting_point(self, point: StartingPoint, message: Message, state: State) -> StartingPoint:
        """Return the starting point of the local phase, in the place of the one in the request.

        Raises WireError if the request lacks what the hook needs.
        """
        return point

    def correction(self, message: Message, state: State) -> Tensors:
        """Return tensors [by parameter] that the objective has in `LocalPhase.correction`; {} for none."""
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
    """Return the hooks that the configuration's choices name, in the order in which they act on a reply."""
    return [resolve(reference)(context) for reference in hook_references(context.config).values()]


def hook_references(config: RunConfig) -> dict[str, str]:
    """Return setting -> reference of each hook that the configuration's choices name, in the same order."""
    method = config.method
    parts: dict[str, Any] = {"federation.attack": config.federation.attack}
    if method.federated:
        for name in ("objective", "combine", "privacy", "norm_bound"):
            parts[f"method.{name}"] = getattr(method, name)
    return {setting: part.exchange for setting, part in parts.items() if part is not None and part.exchange}


def hook_needs(config: RunConfig) -> Iterator[str]:
    """Yield a sentence for each hook that cannot be used, or that has a section of another."""
    sections: dict[str, str] = {}
    for setting, reference in hook_references(config).items():
        try:
            found = resolve(reference)
        except FactoryError as error:
            yield f"{setting}: exchange={error}"
            continue
        if not (isinstance(found, type) and issubclass(found, Hook)):
            yield f"{setting}: exchange={reference!r} is {found!r}; expected a subclass of {__name__}.Hook"
        elif found.section and found.section not in SECTIONS:
            yield f"{setting}: exchange={reference!r} has a section {found.section!r}; expected {' or '.join(SECTIONS)}"
        elif found.section in sections:
            yield f"{setting}: exchange={reference!r} has the section {found.section!r} of {sections[found.section]}"
        elif found.section:
            sections[found.section] = setting
