"""The downlink by deltas: a request encodes how the global model changed since its client last received it.

Where the downlink is a chain of stages, the server encodes the delta of each round, applies the decoded delta to the
previous broadcast model, and makes that its own model; the quantisation residual stays in the chain's state. So the
server and all clients have the same model at the same version, bit for bit; a version is the round that made it. Where
the downlink forwards updates (`relay`), every client computes the same model from them.

The server keeps a log of the encoded deltas, at most as long as a model. A client that was absent catches up: it
receives the deltas since its version, or the whole model where that is shorter. Both sides also keep, for each value,
whether it changed in the last two rounds: masks are coded by that history.
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
from onebasin.federation.messages import write_seed
from onebasin.federation.protocol import Protocol
from onebasin.federation.update_forwarding import RawUpdate, forwarded_model, write_updates
from onebasin.wire.entropy import SymbolReader, SymbolWriter
from onebasin.wire.error import WireError
from onebasin.wire.message import SERVER, Kind, Message, Section
from onebasin.wire.numbers import read_number, write_number

_SLACK = 64
HISTORIES = 4
"""How many histories one value can have: it did or did not change, in each of the last two rounds."""

DIVERGED = -1
"""The version of a client that decoded deltas to another model than the server; it receives the whole model next."""

RESIDUALS = "downlink/"
"""The prefix of the slots in which the server's chain keeps its residuals."""


@dataclass(frozen=True)
class VersionedModel:
    """The global model of one version, equal bit for bit at the server and at all clients of this version.

    A state has the weights in the slot `held`, the change history in the slot `moved`, the version in a fact.

    version: the round that made it; 0 for the initial model.
    weights: by parameter.
    change_history: uint8 [n], for n values: bit 1 is set if it changed in the last round, bit 0 if in the one before.
    """

    version: int
    weights: Tensors
    change_history: ChangeHistory

    def changed(self, round: int, weights: Tensors) -> VersionedModel:
        """Return the version that a round makes: with new weights, and with a history of which values they change."""
        now = flatten(weights).numpy() != flatten(self.weights).numpy()
        return VersionedModel(round, weights, (now * 2 + (self.change_history >> 1)).astype(np.uint8))

    def plus(self, delta: Tensors) -> Tensors:
        """Return the weights plus a delta."""
        return {name: value + delta[name] for name, value in self.weights.items()}

    def into(self, state: State) -> None:
        """Write the version to a state, from which `broadcast_model` reads it."""
        state.slots["held"] = self.weights
        state.slots["moved"] = {"moved": torch.from_numpy(self.change_history)}
        state.facts["version"] = self.version


def first_version(version: int, weights: Tensors) -> VersionedModel:
    """Return a version that begins a series of versions: in its history, no value has changed yet."""
    history = np.zeros(sum(tensor.numel() for tensor in weights.values()), dtype=np.uint8)
    return VersionedModel(version, weights, history)


def broadcast_model(state: State) -> VersionedModel | None:
    """Return the version of the global model that a state has; None if it has none."""
    if "held" not in state.slots:
        return None
    return VersionedModel(state.facts["version"], state.slots["held"], state.slots["moved"]["moved"].numpy())


def advance_version(protocol: Protocol, state: State, round: int, raw_updates: Sequence[RawUpdate] = ()) -> None:
    """Encode the delta from the last version to the server's weights; make the decoded model the server's own.

    Here `before` is the last version, and `now` the one that the round makes.
    raw_updates: the round's encoded updates, where they are forwarded.
    """
    target, before = state.slots["weights"], broadcast_model(state)
    try:
        if before is None:
            now = None
        elif protocol.forwards_updates:
            _append_to_log(protocol, state, round, write_updates(raw_updates))
            now = before.changed(round, target)  # clients compute the same from the updates
        else:
            now = _encode_delta(protocol, state, before, target, round)
    except NotFinite:  # nothing can be encoded; the next requests will fail, with the reason
        now = None
    if now is None:
        now = start_versions(state, round, target)
    else:
        now.into(state)
    state.slots["weights"] = now.weights


def _encode_delta(
    protocol: Protocol, state: State, before: VersionedModel, target: Tensors, round: int
) -> VersionedModel:
    """Append the encoded delta to the log, and the residual to the state; return the version that it decodes to."""
    residuals = read_residuals(state.slots, RESIDUALS)
    context = CodingContext(protocol.run, round, SERVER, residuals, base_model=flatten(before.weights))
    delta = {name: value - before.weights[name] for name, value in target.items()}
    body, received = protocol.downlink.send(delta, context, before.change_history)
    state.slots = with_residuals(state.slots, RESIDUALS, context.next_residuals, protocol.parameters)
    _append_to_log(protocol, state, round, body)
    return before.changed(round, before.plus(received))


def _append_to_log(protocol: Protocol, state: State, round: int, body: bytes) -> None:
    """Append an encoded delta to the log; drop the oldest ones while the log is longer than a whole model."""
    log = {**state.slots["log"], str(round): torch.frombuffer(bytearray(body), dtype=torch.uint8)}
    while log and sum(map(len, log.values())) > protocol.fp32.most_bytes + _SLACK:
        oldest = min(log, key=int)
        state.facts["since"] = int(oldest)
        log.pop(oldest)
    state.slots["log"] = log


def start_versions(state: State, version: int, weights: Tensors) -> VersionedModel:
    """Make a model the current version, and clear the log: no client has this version yet.

    The facts are then: `since`, the oldest version from which the log has all later deltas, is this version; `holds`,
    the versions that clients have, is empty.
    """
    now = first_version(version, weights)
    now.into(state)
    state.slots["log"] = {}
    state.facts |= {"since": version, "holds": {}}
    return now


def catch_up(
    protocol: Protocol, state: State, now: VersionedModel, version: int | None, seed: int | None
) -> list[Section]:
    """Return the sections from which a client gets the current version: deltas or the whole model, the shorter one.

    now: the current version.
    version: the client's; None if it has no model, `DIVERGED` if it has another model than the server.
    seed: of version 0; None if no seed determines it.
    """
    if version == DIVERGED:
        return _whole_model(protocol, now, first=False)
    deltas = None
    if version is None and seed is not None and not state.facts["since"]:
        deltas = [write_seed(seed), _deltas_since(state, 0)]
    elif version is not None and version >= state.facts["since"]:
        deltas = [_deltas_since(state, version)]
    if deltas is not None and _size(deltas) < protocol.fp32.coded_bytes:
        return deltas
    whole = _whole_model(protocol, now, version is None)
    return min(deltas or whole, whole, key=_size)


def _size(sections: list[Section]) -> int:
    return sum(section.size for section in sections)


def _whole_model(protocol: Protocol, now: VersionedModel, first: bool) -> list[Section]:
    """Return the sections of a whole model. first: the client has never received one."""
    out = SymbolWriter()
    out.symbols(now.change_history.astype(np.int32), HISTORIES)
    kind = Kind.INIT if first else Kind.UPDATE
    return [
        Section(kind, "weights", protocol.fp32.encode(now.weights)),
        Section(kind, "version", write_number(now.version) + out.finish()),
    ]


def _deltas_since(state: State, version: int) -> Section:
    """Return the encoded deltas of all rounds after a version."""
    log = {int(round): body.numpy().tobytes() for round, body in state.slots["log"].items()}
    body, before = write_number(version), version
    for round in sorted(log):
        if round > version:
            body += write_number(round - before) + write_number(len(log[round])) + log[round]
            before = round
    return Section(Kind.UPDATE, "changes", body)


def apply_downlink(protocol: Protocol, message: Message, before: VersionedModel | None) -> VersionedModel | None:
    """Return the version that a client has after a request; None if the request has no versioned model.

    before: the version that the client has; None for none.
    Raises WireError if the request is malformed, or if its deltas continue from a version that the client lacks.
    """
    if message.section("version") is not None:
        body = message.require("version")
        version, at = read_number(body, 0)
        history = SymbolReader(memoryview(body)[at:]).symbols(protocol.parameters.numel, HISTORIES)
        weights = protocol.fp32.decode(message.require("weights"))
        return VersionedModel(version, weights, history.astype(np.uint8))
    if message.section("changes") is None:
        return None
    body = message.require("changes")
    base, at = read_number(body, 0)
    if before is None or before.version < base:
        has = "no model" if before is None else f"version {before.version}"
        raise WireError(f"the order tells what changed since version {base}, but this client has {has}")
    return _apply_deltas(protocol, before, body, base, at, message.round)


def _apply_deltas(
    protocol: Protocol, now: VersionedModel, body: bytes, round: int, at: int, end: int
) -> VersionedModel:
    """Return the version after the deltas that start at `at` in a body.

    round: of the version from which they continue; each delta is of a later round, and all are of rounds before `end`.
    """
    while at < len(body):
        later, at = read_number(body, at)
        size, at = read_number(body, at)
        round += later
        if not later or round >= end:
            raise WireError(f"section 'changes' tells of round {round}, once too often or before it is over")
        if at + size > len(body):
            raise WireError("section 'changes' ends inside of a change")
        if round > now.version:
            now = now.changed(round, _apply_delta(protocol, now, body[at : at + size], round))
        at += size
    return now


def _apply_delta(protocol: Protocol, now: VersionedModel, body: bytes, round: int) -> Tensors:
    """Return the weights after the delta, or after the forwarded updates, of one round."""
    if protocol.forwards_updates:
        return forwarded_model(protocol, body, round, now.weights, now.change_history)
    context = CodingContext(protocol.run, round, SERVER, base_model=flatten(now.weights))
    return now.plus(protocol.downlink.receive(body, context, now.change_history))
