"""Orders: what a client must be told to do what it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from onebasin.codecs.context import CodingContext
from onebasin.core.state import State
from onebasin.federation.downlink_deltas import held, news
from onebasin.federation.engines.engine import ClientId
from onebasin.federation.neuron_messages import Frame
from onebasin.federation.protocol import Do, Protocol, write_do, write_seed
from onebasin.methods.method import Method
from onebasin.wire.message import SERVER, Kind, Section


@dataclass(frozen=True)
class Need:
    """All that an order depends on in a round: clients that need the same get the same bytes.

    first: it has never received a model. framed: the client, if it must take on an order of neurons. version: of the
    common model that it holds, where orders only tell changes; None for none.
    """

    do: Do
    first: bool
    framed: ClientId | None
    version: int | None


def brings_model(do: Do) -> bool:
    """Whether an order to train begins from the common model: what is asked for is the change to it."""
    return Do.TRAIN in do and not do & (Do.SEND_MODEL | Do.KEEP_MODEL)


def write_order(protocol: Protocol, method: Method, state: State, round: int, need: Need) -> bytes:
    """Return the order, from the server's state. `NotFinite` for a model that has diverged beyond what can be said."""
    sections = [write_do(need.do)]
    slots = state.slots
    if brings_model(need.do) and "weights" in slots:
        kind = Kind.INIT if need.first else Kind.UPDATE
        seed = state.facts["base"]
        untouched = seed is not None and round == 1
        common = held(state)
        if common is not None:
            sections.extend(news(protocol, state, common, need.version, seed))
        elif untouched and seed is not None:
            sections.append(write_seed(seed))
        else:
            if method.personal and seed is not None:  # who has no mask of its own yet begins with that
                sections.append(write_seed(seed))
            sections.append(Section(kind, "weights", protocol.downlink.body(slots["weights"], CodingContext())))
        if len(protocol.buffers) and not untouched:
            sections.append(Section(kind, "buffers", protocol.exact.encode(slots["buffers"])))
    if Do.TRAIN in need.do and "control" in slots:
        sections.append(Section(Kind.UPDATE, "control", protocol.downlink.body(slots["control"], CodingContext())))
    if need.framed is not None:
        frame = Frame(state.facts["frames"][str(need.framed)], slots[f"frame/{need.framed}"])
        sections.append(Section(Kind.ALIGN, "permutation", protocol.framing.write_permutations(frame)))
    return protocol.write(round, SERVER, sections)
