"""The relay: what the clients of a round sent is passed on as it is, and everyone makes the next model of it.

So the downlink of N short updates costs N of them, whatever they are together. For masks told by minimal random coding
this is BiCompFL with global randomness (Egger et al. 2025, arXiv 2502.00206).
"""

from __future__ import annotations

from collections.abc import Sequence

from onebasin.codecs.codec import flatten
from onebasin.codecs.context import CodingContext
from onebasin.codecs.value_block import ChangeHistory
from onebasin.core.layout import Tensors
from onebasin.federation.protocol import Protocol
from onebasin.federation.server.aggregation_buffer import RawUpdate
from onebasin.methods.server_optimizers import WeightedMean, apply_update
from onebasin.wire.error import WireError
from onebasin.wire.numbers import read_number, write_number


def write_relay(said: Sequence[RawUpdate]) -> bytes:
    """Return all that was said: of each its sender, its weight, how many bytes it has, and those."""
    return b"".join(
        write_number(one.client) + write_number(int(one.weight)) + write_number(len(one.body)) + one.body
        for one in said
    )


def relayed(protocol: Protocol, body: bytes, round: int, weights: Tensors, moved: ChangeHistory) -> Tensors:
    """Return the weights after a round, from those before it and from what all clients sent in it.

    moved: what all know of each value beforehand. `WireError` when the body is no relay of this model's updates.
    """
    mean, at, last = WeightedMean(protocol.parameters), 0, -1
    began = flatten(weights)
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
        context = CodingContext(protocol.run, round, client, known_model=began, base_model=began)
        mean.add(protocol.uplink.receive(body[at : at + size], context, moved), float(weight))
        at += size
    if not mean.weight:
        raise WireError("a relay of no updates")
    return apply_update(protocol.combine, {"weights": weights}, mean.result())["weights"]
