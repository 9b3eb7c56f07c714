"""Requests: encoding what the server asks of a client, with the model and the hooks' sections that this needs."""

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
    """Everything that a request depends on within a round: clients with equal keys get the same bytes.

    request: what it asks for.
    first: the client has never received a model.
    reordered: the client, if it must take a neuron order; else None.
    version: of the global model that the client has, if requests encode deltas; None for none.
    """

    request: Request
    first: bool
    reordered: ClientId | None
    version: int | None


def encode_request(protocol: Protocol, state: State, round: int, key: RequestKey) -> bytes:
    """Encode a request from the server's state. Raises NotFinite if the global model has NaN or infinite values."""
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
    """Return the sections of the global model: a seed, the deltas since the client's version, or its values."""
    kind = Kind.INIT if key.first else Kind.UPDATE
    sections: list[Section] = []
    seed = state.facts["base"]
    is_initial = seed is not None and round == 1
    broadcast = broadcast_model(state)
    if broadcast is not None:
        sections += catch_up(protocol, state, broadcast, key.version, seed)
    elif is_initial:
        sections.append(write_seed(seed))
    else:
        for hook in protocol.hooks:
            sections += hook.model_sections(state)
        sections.append(Section(kind, "weights", protocol.downlink.body(state.slots["weights"], CodingContext())))
    if len(protocol.buffers) and not is_initial:
        sections.append(Section(kind, "buffers", protocol.exact.encode(state.slots["buffers"])))
    return sections


def _order_section(protocol: Protocol, state: State, client: ClientId) -> Section:
    from onebasin.federation.neuron_messages import NewOrder  # other methods need not load `alignment`

    order = NewOrder(state.facts["frames"][str(client)], state.slots[f"frame/{client}"])
    return Section(Kind.ALIGN, "permutation", protocol.neurons.write_permutations(order))
