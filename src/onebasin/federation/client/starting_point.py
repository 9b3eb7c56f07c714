"""The first step of a client: decode a request, and determine the starting point of the local phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onebasin.codecs.context import CodingContext
from onebasin.core.layout import Tensors
from onebasin.core.seeds import derive
from onebasin.core.state import State
from onebasin.federation.client.work import Work
from onebasin.federation.downlink_deltas import VersionedModel, apply_downlink, broadcast_model, first_version
from onebasin.federation.hooks.hook import StartingPoint
from onebasin.federation.messages import Request, read_request, read_seed
from onebasin.federation.protocol import Protocol
from onebasin.learning.local_training import Start
from onebasin.wire.error import WireError
from onebasin.wire.message import SERVER, Message

if TYPE_CHECKING:
    from onebasin.federation.neuron_messages import NewOrder
    from onebasin.federation.run_config import RunConfig
    from onebasin.learning.masks.masked_update import MaskedUpdate

ORDER_FACT = "frame"
"""The fact `frame`: the number of the neuron order in which the client's state is (`NewOrder.number`).

It prevents that the same order is applied twice.
"""

ROUND_FACT = "round"
"""The fact with the last round that the client replied to, if it keeps a state; it refuses requests of earlier ones."""


def own_seed(config: RunConfig, client: int) -> int:
    """Return the seed of a client's own initialisation."""
    return derive(config.seed, "own-init", client)


def begin_work(config: RunConfig, protocol: Protocol, client: int, state: State, data: bytes) -> Work:
    """Decode a request, and return the work that it asks for. The state is not changed.

    The client starts from the model in the request; without one, from its own model, or from its own initialisation.
    Raises WireError if the request is malformed, of another run, of an earlier round than the client's last reply, or
    asks for what the method has not.
    """
    message = protocol.read(data, SERVER)
    foreign = {section.name for section in message.sections} - protocol.sections.of_requests
    if foreign:
        raise WireError(f"the order has sections that this method has no use for: {sorted(foreign)}")
    if message.round < state.facts.get(ROUND_FACT, 0):
        raise WireError(f"the order is of round {message.round}; round {state.facts[ROUND_FACT]} is answered already")
    request = read_request(message, protocol.sections.allowed)
    permutation = message.section("permutation")
    order = None if permutation is None else protocol.neurons.read_permutations(permutation.body)
    state = reordered(protocol, state, order)
    broadcast = _broadcast(protocol, message, state) if protocol.sends_deltas else None
    point = _starting_point(config, protocol, message, client, state, broadcast)
    if point.own and Request.SEND_UPDATE in request:
        raise WireError("the order asks for an update, but brings no model to which it is one")
    correction: Tensors = {}
    for hook in protocol.hooks:
        point = hook.starting_point(point, message, state)
        correction = correction | hook.correction(message, state)
    start = Start(
        point.weights,
        point.buffers,
        state.slots.get("optimizer", {}),
        config.method.objective,
        state.slots.get("objective", {}),
        correction,
        _trainable(config, protocol, request, message.round),
        _masked_update(config, protocol, request, message.round, client),
    )
    return Work(client, message, request, start, point.own, point.known_model, order, broadcast)


def reordered(protocol: Protocol, state: State, order: NewOrder | None) -> State:
    """Return the client's state in a new neuron order; unchanged without one, or if it is in this order already."""
    if order is None or order.number <= state.facts.get(ORDER_FACT, 0):
        return state
    permuted = protocol.neurons.permuted(state, order.perms)
    permuted.facts[ORDER_FACT] = order.number
    return permuted


def sends_delta(protocol: Protocol, request: Request) -> bool:
    """Return whether the uplink encodes a delta in the reply.

    The delta is added to the global model, or to the initial model of a seed (`Protocol.sends_seeds`).
    """
    return Request.SEND_UPDATE in request or protocol.sends_seeds


def _starting_point(
    config: RunConfig,
    protocol: Protocol,
    message: Message,
    client: int,
    state: State,
    broadcast: VersionedModel | None,
) -> StartingPoint:
    """Return the model in the request; without one, the client's own model, or its own initialisation.

    Its weights are at first also the `known_model`, from which the update is counted; hooks may change that.
    """
    own = False
    if broadcast is not None:
        weights, buffers = broadcast.weights, _buffers_beside_deltas(protocol, message)
    elif message.section("weights") is not None:
        weights = protocol.downlink.receive(message.require("weights"), CodingContext())
        buffers = protocol.exact.decode(message.require("buffers")) if len(protocol.buffers) else {}
    elif message.section("seed") is not None:
        weights, buffers = protocol.initial_model(read_seed(message))
    elif "weights" in state.slots:
        own, weights, buffers = True, state.slots["weights"], state.slots["buffers"]
    else:
        own = True
        weights, buffers = protocol.initial_model(own_seed(config, client))
    return StartingPoint(weights, buffers, weights, own)


def _buffers_beside_deltas(protocol: Protocol, message: Message) -> Tensors:
    """Return the buffers of a request with deltas: its section `buffers`, or those of its seed's initial model."""
    if message.section("buffers") is not None:
        return protocol.exact.decode(message.require("buffers"))
    return protocol.initial_model(read_seed(message))[1] if len(protocol.buffers) else {}


def _broadcast(protocol: Protocol, message: Message, state: State) -> VersionedModel | None:
    """Return the global model after a request; None if the request has none.

    If the request has deltas, they are added to the initial model of the request's seed; without a seed, to the version
    that the client has.
    """
    before = broadcast_model(state)
    if message.section("seed") is not None:
        before = first_version(0, protocol.initial_model(read_seed(message))[0])
    return apply_downlink(protocol, message, before)


def _trainable(config: RunConfig, protocol: Protocol, request: Request, round: int) -> Tensors | None:
    """Return which values are trained, with ``trains="sent"`` those that the reply will have; None for all."""
    if config.method.trains == "all" or not sends_delta(protocol, request):
        return None
    return protocol.sent_mask(round)


def _masked_update(
    config: RunConfig, protocol: Protocol, request: Request, round: int, client: int
) -> MaskedUpdate | None:
    """Return how the update will be masked, if the parametrization trains updates as masks over noise."""
    chosen = config.method.parametrization
    if not chosen.trains_updates_as_masks or not sends_delta(protocol, request):
        return None
    from onebasin.codecs.chain import Chain
    from onebasin.codecs.stages.masked_noise import MaskedNoise as NoiseStage  # for methods that train such updates
    from onebasin.learning.masks.masked_update import MaskedUpdate

    codec = protocol.uplink.at(round)
    assert isinstance(codec, Chain)
    stage = codec.stages[-1]
    assert isinstance(stage, NoiseStage)
    noise = stage.draw(protocol.parameters.numel, CodingContext(protocol.run, round, client))
    return MaskedUpdate(protocol.parameters.split(noise), stage.signed, chosen.masks_progressively)
