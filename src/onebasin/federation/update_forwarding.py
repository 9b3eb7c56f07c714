"""Update forwarding: the clients' encoded updates of a round go to all clients, and each computes the next model.

So each client receives N short updates, even if their aggregate would be much longer. For masks that are encoded by
minimal random coding this is BiCompFL with global randomness (Egger et al. 2025, arXiv 2502.00206).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onebasin.codecs.codec import flatten
from onebasin.codecs.context import CodingContext
from onebasin.codecs.value_block import ChangeHistory
from onebasin.core.clients import ClientId
from onebasin.core.layout import Tensors
from onebasin.federation.protocol import Protocol
from onebasin.federation.weighted_mean import WeightedMean
from onebasin.methods.aggregation_rule import Mean, apply_rule
from onebasin.wire.error import WireError
from onebasin.wire.numbers import read_number, write_number


@dataclass(frozen=True)
class RawUpdate:
    """A client's encoded update, and its weight in the mean."""

    client: ClientId
    weight: float
    body: bytes


def write_updates(raw_updates: Sequence[RawUpdate]) -> bytes:
    """Encode the updates of a round: for each its client, weight and length (varints), then its bytes."""
    return b"".join(
        write_number(one.client) + write_number(int(one.weight)) + write_number(len(one.body)) + one.body
        for one in raw_updates
    )


def forwarded_model(protocol: Protocol, body: bytes, round: int, weights: Tensors, history: ChangeHistory) -> Tensors:
    """Return the weights after a round, from those before it and the updates of all its clients.

    body: from `write_updates`.
    weights: before the round.
    history: of the changes of each value before the round.
    Raises WireError if the body is malformed, or if it has no updates.
    """
    mean, at, last, count = WeightedMean(protocol.parameters), 0, -1, 0
    before = flatten(weights)
    while at < len(body):
        client, at = read_number(body, at)
        weight, at = read_number(body, at)
        size, at = read_number(body, at)
        if at + size > len(body) or not weight:
            raise WireError(
                f"a relayed update of client {client} has {len(body) - at} of {size} bytes, weight {weight}"
            )
        if not last < client < protocol.clients:
            raise WireError(
                f"a relayed update is of client {client}, after that of {last}, of {protocol.clients} clients"
            )
        last = client
        context = CodingContext(protocol.run, round, client, known_model=before, base_model=before)
        mean.add(protocol.uplink.receive(body[at : at + size], context, history), float(weight))
        at += size
        count += 1
    if not mean.weight:
        raise WireError("a relay of no updates")
    result = Mean(mean.result(), mean.weight, share=count / protocol.clients)
    return apply_rule(protocol.rule, {"weights": weights}, result)["weights"]
