"""The messages of a run: what a request asks for, the sections of requests and replies, and the short bodies.

| request asks for | the reply has |
|---|---|
| TRAIN | `report`, and the sections of the method's hooks (`control`: the change of a control variate) |
| SEND_UPDATE | `update`, `buffers` |
| SEND_MODEL | `weights`, or `seed` and `update`; `buffers` |
| SEND_SIGNATURES | `signatures` |
| SEND_SKETCH | `sketch` |
| SEND_STATISTICS | `statistics` |
| SCORE | two more numbers in `report` |
| KEEP_MODEL | nothing: the client keeps its model |

A request has the section `do`, which says what it asks for. If the client is to train on the global model, the request
has this model: `seed`, `weights` or `changes`, perhaps with `buffers` and `version`. It may have sections of hooks, and
`permutation`, the neuron order that the client must take.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any

from onebasin.wire.error import WireError
from onebasin.wire.message import Kind, Message, Section
from onebasin.wire.numbers import read_number, write_number

if TYPE_CHECKING:
    from onebasin.federation.hooks.hook import Hook
    from onebasin.methods.method import Method

_SEED = struct.Struct("<Q")
_REQUEST = struct.Struct("<B")
_LOSS = struct.Struct("<f")
_SCORE = struct.Struct("<ff")


class Request(IntFlag):
    """What a request asks a client for, in any combination."""

    TRAIN = 1
    SEND_UPDATE = 2
    SEND_MODEL = 4
    KEEP_MODEL = 8
    SCORE = 16
    SEND_SIGNATURES = 32
    SEND_SKETCH = 64
    SEND_STATISTICS = 128

    @property
    def brings_model(self) -> bool:
        """Whether the request brings the global model.

        A client that is to train, but neither to send nor to keep a whole model of its own, starts from the global
        model; what it sends is an update to it.
        """
        return Request.TRAIN in self and not self & (Request.SEND_MODEL | Request.KEEP_MODEL)


@dataclass(frozen=True)
class Report:
    """The numbers that a client reports.

    examples: the number of its examples. steps: the number of local steps. loss: mean training loss in nats.
    accuracy, test_loss: of its model; NaN if the request did not ask for a score.
    """

    examples: int
    steps: int
    loss: float = math.nan
    accuracy: float = math.nan
    test_loss: float = math.nan


@dataclass(frozen=True)
class SectionTable:
    """What the requests of a run may ask for, and the sections that requests may have and replies must have.

    allowed: everything that requests may ask for.
    of_requests: the sections that requests may have.
    model: the sections of a client's whole model.
    with_buffers: models have buffers.
    of_training: the sections that hooks add to replies to a request to train.
    """

    allowed: Request
    of_requests: frozenset[str]
    model: frozenset[str]
    with_buffers: bool
    of_training: frozenset[str]

    @classmethod
    def of(cls, method: Method, with_buffers: bool, sends_deltas: bool, hooks: Iterable[Hook]) -> SectionTable:
        """Return the table of a method with its hooks. sends_deltas: requests encode the global model as deltas."""
        sections = {hook.section: hook.in_replies for hook in hooks if hook.section}
        model = frozenset({"seed", "update"} if method.models in ("seeded", "masked") else {"weights"})
        names = _request_sections(method, sends_deltas) | sections.keys()
        of_replies = frozenset(section for section, in_replies in sections.items() if in_replies)
        return cls(_allowed_requests(method), names, model, with_buffers, of_replies)

    def of_reply(self, request: Request) -> frozenset[str]:
        """Return the sections that the reply to a request must have."""
        names = {"report"}
        if Request.SEND_UPDATE in request:
            names.add("update")
        if Request.SEND_MODEL in request:
            names |= self.model
        if Request.SEND_SIGNATURES in request:
            names.add("signatures")
        if Request.SEND_SKETCH in request:
            names.add("sketch")
        if Request.SEND_STATISTICS in request:
            names.add("statistics")
        if self.with_buffers and request & (Request.SEND_UPDATE | Request.SEND_MODEL):
            names.add("buffers")
        if Request.TRAIN in request:
            names |= self.of_training
        return frozenset(names)


def _allowed_requests(method: Method) -> Request:
    if not method.federated:
        return Request.TRAIN | Request.KEEP_MODEL | Request.SCORE
    allowed = Request.TRAIN | Request.SEND_UPDATE
    if method.scored_by_clients:
        allowed |= Request.SCORE
    if method.start == "local":
        allowed |= Request.SEND_MODEL | Request.KEEP_MODEL
    if method.frame == "signatures":
        allowed |= Request.SEND_SIGNATURES
    if method.sketched:
        allowed |= Request.SEND_SKETCH
    if method.repair_targets == "clients":
        allowed |= Request.SEND_STATISTICS
    return allowed


def _request_sections(method: Method, sends_deltas: bool) -> frozenset[str]:
    names = {"do"}
    if method.federated:
        names |= {"weights", "buffers"}
        if method.start == "shared-seed" or method.models == "seeded":
            names.add("seed")
        if sends_deltas:
            names |= {"changes", "version"}
        if method.aligned:
            names.add("permutation")
    return frozenset(names)


def write_request(request: Request) -> Section:
    """Return the section that says what a request asks for."""
    return Section(Kind.CONTROL, "do", _REQUEST.pack(request))


def read_request(message: Message, allowed: Request) -> Request:
    """Return what a request asks for.

    allowed: everything that requests of the run may ask for.
    Raises WireError if the request asks for nothing, or for something else.
    """
    asked = Request(_unpack(_REQUEST, message, "do")[0])
    if not asked:
        raise WireError("the order asks for nothing")
    if asked & ~allowed:
        raise WireError(f"the order asks for {asked & ~allowed!r}, which this method has no use for")
    return asked


def write_seed(seed: int) -> Section:
    """Return the section of a seed; its body has 8 bytes."""
    return Section(Kind.INIT, "seed", _SEED.pack(seed))


def read_seed(message: Message) -> int:
    """Return the seed of a message. Raises WireError if there is none, or if it has more than 63 bits."""
    seed: int = _unpack(_SEED, message, "seed")[0]
    if seed >> 63:
        raise WireError(f"a seed is {seed}; it has 63 bits")
    return seed


def write_report(report: Report) -> Section:
    """Return the section of a report."""
    body = write_number(report.examples) + write_number(report.steps) + _LOSS.pack(report.loss)
    if not math.isnan(report.accuracy):
        body += _SCORE.pack(report.accuracy, report.test_loss)
    return Section(Kind.CONTROL, "report", body)


def read_report(message: Message) -> Report:
    """Return the report of a reply. Raises WireError if its length is wrong, or if a number is infinite."""
    body = message.require("report")
    examples, at = read_number(body, 0)
    steps, at = read_number(body, at)
    if len(body) - at not in (_LOSS.size, _LOSS.size + _SCORE.size):
        raise WireError(f"section 'report' has {len(body)} bytes, which is too many or too few")
    scored = len(body) > at + _LOSS.size
    score = _SCORE.unpack_from(body, at + _LOSS.size) if scored else (math.nan, math.nan)
    report = Report(examples, steps, *_LOSS.unpack_from(body, at), *score)
    if math.isinf(report.loss) or math.isinf(report.accuracy) or math.isinf(report.test_loss):
        raise WireError(f"the report has an infinite number: {report}")
    return report


def _unpack(form: struct.Struct, message: Message, name: str) -> tuple[Any, ...]:
    body = message.require(name)
    if len(body) != form.size:
        raise WireError(f"section {name!r} has {len(body)} bytes, not {form.size}")
    return form.unpack(body)
