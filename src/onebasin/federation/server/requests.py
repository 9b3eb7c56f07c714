"""Requests: what a client is sent so that it can do what it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from onebasin.codecs.context import CodingContext
from onebasin.core.clients import ClientId
from onebasin.core.state import State
from onebasin.federation.downlink_deltas import broadcast_model, catch_up
from onebasin.federation.messages import Request, write_request, write_seed
from onebasin.federation.protocol import Protocol
from onebasin.wire.message import SERVER, Kind, Section


@dataclass(frozen=True)
class RequestKey:
    """All that a request depends on in a round: clients with equal keys get the same bytes.

    first: the client has never received a model. reordered: the client, if it must take a neuron order. version: of the
    global model that it has, where requests encode deltas; None for none.
    """

    request: Request
    first: bool
    reordered: ClientId | None
    version: int | None


def encode_request(protocol: Protocol, state: State, round: int, key: RequestKey) -> bytes:
    """Return the message, from the server's state. `NotFinite` for a model that no codec can encode."""
    sections = [write_request(key.request)]
    if key.request.brings_model and "weights" in state.slots:
        sections += _model_sections(protocol, state, round, key)
    if Request.TRAIN in key.request:
        for hook in protocol.hooks:
            sections += hook.request_sections(state)
    if key.reordered is not None:
        sections.append(_order_section(protocol, state, key.reordered))
    return protocol.write(round, SERVER, sections)


def _model_sections(protocol: Protocol, state: State, round: int, key: RequestKey) -> list[Section]:
    """Return the global model: as a seed, as deltas since the client's version, or as values."""
    kind = Kind.INIT if key.first else Kind.UPDATE
    sections: list[Section] = []
    seed = state.facts["base"]
    untouched = seed is not None and round == 1
    broadcast = broadcast_model(state)
    if broadcast is not None:
        sections += catch_up(protocol, state, broadcast, key.version, seed)
    elif untouched:
        sections.append(write_seed(seed))
    else:
        for hook in protocol.hooks:
            sections += hook.model_sections(state)
        sections.append(Section(kind, "weights", protocol.downlink.body(state.slots["weights"], CodingContext())))
    if len(protocol.buffers) and not untouched:
        sections.append(Section(kind, "buffers", protocol.exact.encode(state.slots["buffers"])))
    return sections


def _order_section(protocol: Protocol, state: State, client: ClientId) -> Section:
    from onebasin.federation.neuron_messages import NewOrder  # alignment is for methods that align

    order = NewOrder(state.facts["frames"][str(client)], state.slots[f"frame/{client}"])
    return Section(Kind.ALIGN, "permutation", protocol.neurons.write_permutations(order))
