"""The downlink of what changed: what clients hold, and how they come to hold what follows.

Where the downlink is a chain of stages, an order says by what the common model has changed since its reader last heard
of it; where it is a relay, what the clients of each round sent, of which every client makes the same model. All clients
hold the same model at the same version, the round in which it was made, bit for bit; the server's `weights` are what
they hold, and what a chain left unsaid is with the chain. A client that was away gets all that was said meanwhile, or
the whole model where that is shorter, and so the log need not be longer than a model.

Both sides also remember of each value whether it moved in the last two changes: the classes by which masks are coded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from onebasin.codecs.codec import NotFinite, flatten
from onebasin.codecs.context import CodingContext
from onebasin.codecs.residuals import read_residuals, with_residuals
from onebasin.codecs.value_block import ChangeHistory
from onebasin.core.layout import Tensors
from onebasin.core.state import State
from onebasin.federation.protocol import Protocol, write_seed
from onebasin.federation.server.aggregation_buffer import RawUpdate
from onebasin.federation.update_forwarding import relayed, write_relay
from onebasin.wire.entropy import SymbolReader, SymbolWriter
from onebasin.wire.error import WireError
from onebasin.wire.message import SERVER, Kind, Message, Section
from onebasin.wire.numbers import read_number, write_number

_SLACK = 64
CLASSES = 4
DIVERGED = -1
"""The version of a client that made another model of the changes than all others: what it is told next is the whole."""

MEMORY = "downlink/"
"""What the slots begin with in which the server's chain keeps what it remembers."""


@dataclass(frozen=True)
class VersionedModel:
    """A common model as all who heard of it hold it. moved: of each value, a bit for each of the last two changes."""

    version: int
    weights: Tensors
    moved: ChangeHistory

    def changed(self, round: int, weights: Tensors) -> VersionedModel:
        """What is held once the weights are others."""
        now = flatten(weights).numpy() != flatten(self.weights).numpy()
        return VersionedModel(round, weights, (now * 2 + (self.moved >> 1)).astype(np.uint8))

    def plus(self, change: Tensors) -> Tensors:
        """The weights after a change."""
        return {name: value + change[name] for name, value in self.weights.items()}

    def into(self, state: State) -> None:
        """Put it where `held` finds it."""
        state.slots["held"] = self.weights
        state.slots["moved"] = {"moved": torch.from_numpy(self.moved)}
        state.facts["version"] = self.version


def first_version(version: int, weights: Tensors) -> VersionedModel:
    """A model of which no changes are known."""
    return VersionedModel(
        version, weights, np.zeros(sum(tensor.numel() for tensor in weights.values()), dtype=np.uint8)
    )


def held(state: State) -> VersionedModel | None:
    """The common model that a state remembers."""
    if "held" not in state.slots:
        return None
    return VersionedModel(state.facts["version"], state.slots["held"], state.slots["moved"]["moved"].numpy())


def tell(protocol: Protocol, state: State, round: int, said: Sequence[RawUpdate] = ()) -> None:
    """Have the common model be what clients will hold: the one before, and what can be said of the change.

    said: the updates that became the change, where they are passed on.
    """
    goal, before = state.slots["weights"], held(state)
    try:
        if before is None:
            now = None
        elif protocol.relays:
            _log(protocol, state, round, write_relay(said))
            now = before.changed(round, goal)  # which is what clients make of it, too
        else:
            now = _said(protocol, state, before, goal, round)
    except NotFinite:  # there is nothing to be said; orders will fail, with the reason
        now = None
    if now is None:
        now = begin(state, round, goal)
    else:
        now.into(state)
    state.slots["weights"] = now.weights


def _said(protocol: Protocol, state: State, before: VersionedModel, goal: Tensors, round: int) -> VersionedModel:
    """Say by what a model is to change; return what all then hold. The state gets what was said, and what was left."""
    context = CodingContext(
        protocol.run, round, SERVER, read_residuals(state.slots, MEMORY), base_model=flatten(before.weights)
    )
    change = {name: value - before.weights[name] for name, value in goal.items()}
    body, received = protocol.downlink.send(change, context, before.moved)
    state.slots = with_residuals(state.slots, MEMORY, context.next_residuals, protocol.parameters)
    _log(protocol, state, round, body)
    return before.changed(round, before.plus(received))


def _log(protocol: Protocol, state: State, round: int, body: bytes) -> None:
    """Keep what was said in a round; forget the oldest of it when it is longer than a model."""
    log = {**state.slots["log"], str(round): torch.frombuffer(bytearray(body), dtype=torch.uint8)}
    while log and sum(map(len, log.values())) > protocol.fresh.most_bytes + _SLACK:
        oldest = min(log, key=int)
        state.facts["since"] = int(oldest)
        log.pop(oldest)
    state.slots["log"] = log


def begin(state: State, version: int, weights: Tensors) -> VersionedModel:
    """Have the state hold a model that nobody has heard of, and none of its changes."""
    now = first_version(version, weights)
    now.into(state)
    state.slots["log"] = {}
    state.facts |= {"since": version, "holds": {}}
    return now


def news(protocol: Protocol, state: State, now: VersionedModel, version: int | None, seed: int | None) -> list[Section]:
    """Return what a client with a version (None: it has no model) must hear to hold what all others do.

    The shorter of the two: what changed, or all of it. seed: that of version 0, if a model can be told by a seed.
    """
    if version == DIVERGED:
        return _whole(protocol, now, first=False)
    told = None
    if version is None and seed is not None and not state.facts["since"]:
        told = [write_seed(seed), _changes(state, 0)]
    elif version is not None and version >= state.facts["since"]:
        told = [_changes(state, version)]
    if told is not None and _size(told) < protocol.fresh.coded_bytes:
        return told
    whole = _whole(protocol, now, version is None)
    return min(told or whole, whole, key=_size)


def _size(sections: list[Section]) -> int:
    return sum(section.size for section in sections)


def _whole(protocol: Protocol, now: VersionedModel, first: bool) -> list[Section]:
    out = SymbolWriter()
    out.symbols(now.moved.astype(np.int32), CLASSES)
    kind = Kind.INIT if first else Kind.UPDATE
    return [
        Section(kind, "weights", protocol.fresh.encode(now.weights)),
        Section(kind, "version", write_number(now.version) + out.finish()),
    ]


def _changes(state: State, version: int) -> Section:
    """What was said since a version."""
    log = {int(round): said.numpy().tobytes() for round, said in state.slots["log"].items()}
    body, before = write_number(version), version
    for round in sorted(log):
        if round > version:
            body += write_number(round - before) + write_number(len(log[round])) + log[round]
            before = round
    return Section(Kind.UPDATE, "changes", body)


def heard(protocol: Protocol, message: Message, before: VersionedModel | None) -> VersionedModel | None:
    """Return what a client holds once it has read an order; None if the order brings no model in this way.

    `WireError` when the order speaks of another model than the one that the client holds.
    """
    if message.section("version") is not None:
        body = message.require("version")
        version, at = read_number(body, 0)
        moved = SymbolReader(memoryview(body)[at:]).symbols(protocol.parameters.numel, CLASSES)
        weights = protocol.fresh.decode(message.require("weights"))
        return VersionedModel(version, weights, moved.astype(np.uint8))
    if message.section("changes") is None:
        return None
    body = message.require("changes")
    base, at = read_number(body, 0)
    if before is None or before.version < base:
        has = "no model" if before is None else f"version {before.version}"
        raise WireError(f"the order tells what changed since version {base}, but this client has {has}")
    return _after(protocol, before, body, base, at, message.round)


def _after(protocol: Protocol, now: VersionedModel, body: bytes, round: int, at: int, end: int) -> VersionedModel:
    """What is held after the changes that begin at a place in a body; all are of different rounds before `end`."""
    while at < len(body):
        later, at = read_number(body, at)
        size, at = read_number(body, at)
        round += later
        if not later or round >= end:
            raise WireError(f"section 'changes' tells of round {round}, once too often or before it is over")
        if at + size > len(body):
            raise WireError("section 'changes' ends inside of a change")
        if round > now.version:
            now = now.changed(round, _next_weights(protocol, now, body[at : at + size], round))
        at += size
    return now


def _next_weights(protocol: Protocol, now: VersionedModel, body: bytes, round: int) -> Tensors:
    """The weights after the change of one round."""
    if protocol.relays:
        return relayed(protocol, body, round, now.weights, now.moved)
    context = CodingContext(protocol.run, round, SERVER, base_model=flatten(now.weights))
    return now.plus(protocol.downlink.receive(body, context, now.moved))
