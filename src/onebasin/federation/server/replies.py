"""Replies: decoding and checking, in one pass that builds no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from onebasin.codecs.context import CodingContext
from onebasin.codecs.value_block import ChangeHistory
from onebasin.core.layout import Tensors
from onebasin.federation.messages import Report, Request, read_report, read_seed
from onebasin.federation.protocol import Protocol
from onebasin.wire.error import WireError
from onebasin.wire.message import Message

if TYPE_CHECKING:
    from onebasin.alignment.repair import Statistics


@dataclass(frozen=True)
class OwnModel:
    """A client's whole model as it was sent: by its weights, by a seed and a delta, or by a seed and a mask."""

    weights: Tensors | None = None
    seed: int | None = None
    delta: Tensors | None = None
    mask: Tensors | None = None

    def build(self, protocol: Protocol) -> Tensors:
        """Return the weights by parameter. For a seed, this builds the model."""
        if self.weights is not None:
            return self.weights
        assert self.seed is not None
        if self.mask is not None:
            assert protocol.seed_and_mask is not None
            return protocol.seed_and_mask.weights_of(self.seed, self.mask)
        assert self.delta is not None
        return {name: value + self.delta[name] for name, value in protocol.initial_model(self.seed)[0].items()}


@dataclass(frozen=True)
class CheckedReply:
    """A decoded reply with exactly the sections that were requested.

    report: the client's numbers.
    update: to the global model, by parameter; None if the client sent a whole model or neither.
    own_model: the client's whole model; None for none.
    buffers: of the model; {} for none.
    signatures: responses of the model's neurons; None for none.
    sketch: encoded, known to be well-formed; None for none.
    statistics: of the model's neurons; None for none.
    raw_update: the encoded update.
    extra: the decoded sections of hooks, by section.
    """

    report: Report
    update: Tensors | None = None
    own_model: OwnModel | None = None
    buffers: Tensors = field(default_factory=dict)
    signatures: Tensors | None = None
    sketch: bytes | None = None
    statistics: Statistics | None = None
    raw_update: bytes | None = None
    extra: Mapping[str, Tensors] = field(default_factory=dict)

    @property
    def is_coded(self) -> bool:
        """Whether it has values that a codec encoded. Their check has passed: they are those that the client meant."""
        return any((self.update, self.own_model, self.buffers, self.extra))


def read_reply(
    protocol: Protocol,
    reply: bytes,
    request: Request,
    context: CodingContext,
    history: ChangeHistory | None = None,
) -> CheckedReply:
    """Decode and check a reply.

    request: what the client was asked for.
    context: the client and the round, and the models that both sides know.
    history: of the changes of each value, which both sides know.
    Raises WireError if the reply is damaged, of another run, client or round, or has other sections than requested;
    Diverged, a WireError, if it decodes to other values than the client encoded.
    """
    message = protocol.read(reply, context.sender)
    if message.round != context.round:
        raise WireError(f"the reply is to round {message.round}, not to round {context.round}")
    report = read_report(message)
    if report.examples == 0:
        raise WireError("the client reports that it holds no examples")
    bodies = {section.name: section.body for section in message.sections}
    expected = protocol.sections.of_reply(request)
    if bodies.keys() != expected:
        raise WireError(f"the reply has {list(bodies)}; expected {sorted(expected)}")
    extra = {hook.section: hook.decode(bodies[hook.section]) for hook in protocol.hooks if hook.section in bodies}
    found = CheckedReply(report, extra=extra)
    if "sketch" in bodies:
        protocol.neurons.read_sketch(bodies["sketch"])
        found = replace(found, sketch=bodies["sketch"])
    if Request.SEND_UPDATE in request:
        update = protocol.uplink.receive(bodies["update"], context, history)
        found = replace(found, update=update, raw_update=bodies["update"])
    if Request.SEND_MODEL in request:
        found = replace(found, own_model=_own_model(protocol, message, context))
    if "buffers" in bodies:
        found = replace(found, buffers=protocol.exact.decode(bodies["buffers"]))
    if "signatures" in bodies:
        found = replace(found, signatures=protocol.neurons.read_signatures(bodies["signatures"]))
    if "statistics" in bodies:
        found = replace(found, statistics=protocol.neurons.read_statistics(bodies["statistics"]))
    return found


def require_buffers_like(reply: CheckedReply, common: Tensors) -> None:
    """Raise WireError if a buffer has infinite values where that of the global model has finite ones."""
    for name, value in reply.buffers.items():
        if value.is_floating_point() and bool((torch.isinf(value) & torch.isfinite(common[name])).any()):
            raise WireError(f"{name} has infinite values where the common model has none")


def _own_model(protocol: Protocol, message: Message, context: CodingContext) -> OwnModel:
    if protocol.seed_and_mask is not None:
        return OwnModel(seed=read_seed(message), mask=protocol.seed_and_mask.decode(message.require("update")))
    if protocol.sends_seeds:
        context = replace(context, known_model=None, base_model=None)
        return OwnModel(seed=read_seed(message), delta=protocol.uplink.receive(message.require("update"), context))
    return OwnModel(weights=protocol.whole_models.decode(message.require("weights")))
