"""The first step of a client: from a request to the work that it asks for, with its starting point."""

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
"""The fact that holds the number of the last neuron order that a client took, so that it takes none twice."""

ROUND_FACT = "round"
"""The fact that holds the last round that a client answered, if it remembers something: it answers no older one."""


def own_seed(config: RunConfig, client: int) -> int:
    """Return the seed of the weights that a client begins with by itself."""
    return derive(config.seed, "own-init", client)


def begin_work(config: RunConfig, protocol: Protocol, client: int, state: State, data: bytes) -> Work:
    """Return the work that a request asks for. A client starts from the model that the request brings, else its own.

    `WireError` when the request is not one for this client's run, or is older than one that it has answered; the
    state is not touched.
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
    state = in_order(protocol, state, order)
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


def in_order(protocol: Protocol, state: State, order: NewOrder | None) -> State:
    """Return the state with its neurons in an order, unless they are in it already."""
    if order is None or order.number <= state.facts.get(ORDER_FACT, 0):
        return state
    permuted = protocol.neurons.permuted(state, order.perms)
    permuted.facts[ORDER_FACT] = order.number
    return permuted


def sends_delta(protocol: Protocol, request: Request) -> bool:
    """Return whether a reply is a delta by the uplink's codec: to the global model, or to the client's own start."""
    return Request.SEND_UPDATE in request or protocol.sends_seeds


def _starting_point(
    config: RunConfig,
    protocol: Protocol,
    message: Message,
    client: int,
    state: State,
    broadcast: VersionedModel | None,
) -> StartingPoint:
    """Return the model that a request brings; without one, the client's own, or that of its own seed."""
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
    if message.section("buffers") is not None:
        return protocol.exact.decode(message.require("buffers"))
    return protocol.initial_model(read_seed(message))[1] if len(protocol.buffers) else {}


def _broadcast(protocol: Protocol, message: Message, state: State) -> VersionedModel | None:
    """Return the global model after a request by deltas, which may count from a model that a seed stands for."""
    known = broadcast_model(state)
    if message.section("seed") is not None:
        known = first_version(0, protocol.initial_model(read_seed(message))[0])
    return apply_downlink(protocol, message, known)


def _trainable(config: RunConfig, protocol: Protocol, request: Request, round: int) -> Tensors | None:
    """Return which values are trained, where only those are that the reply encodes; None for all."""
    if config.method.trains == "all" or not sends_delta(protocol, request):
        return None
    return protocol.sent_mask(round)


def _masked_update(
    config: RunConfig, protocol: Protocol, request: Request, round: int, client: int
) -> MaskedUpdate | None:
    """Return the noise by which the reply will be masked, where the update is trained as such a mask."""
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
    progressive: bool = getattr(chosen, "progressive", True)
    return MaskedUpdate(protocol.parameters.split(noise), stage.signed, progressive)
