"""The phases of a round: which clients are asked for what, and what follows from their replies.

A round is a chain of exchanges. The first is always to train. If clients sent signatures, the server finds their neuron
order and asks for their models in it. If the method adopts one client's model and there is none yet, the server asks
the client with the most examples for its model. When no phase follows, the replies are aggregated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from onebasin.core.clients import ClientId
from onebasin.core.state import State
from onebasin.federation.messages import Report, Request
from onebasin.methods.method import Method

if TYPE_CHECKING:
    from onebasin.symmetry.spec import Perms

Requests = dict[ClientId, Request]


def training_requests(method: Method, state: State, cohort: Iterable[ClientId], scored: bool) -> Requests:
    """Return what the clients of a cohort are asked for at first. scored: clients also score their models."""
    score = Request.SCORE if method.scored_by_clients and scored else Request(0)
    if not method.federated:
        return dict.fromkeys(cohort, Request.TRAIN | Request.KEEP_MODEL | score)
    return {client: _training_request(method, state, client) | score for client in cohort}


def _training_request(method: Method, state: State, client: ClientId) -> Request:
    """Return what one client is asked for: the delta to the global model, or what its own model needs to join."""
    asked = Request.TRAIN
    if method.sketched and str(client) not in state.slots.get("sketches", {}):
        asked |= Request.SEND_SKETCH
    has_model = "weights" in state.slots
    own = method.start == "local" and (not has_model or (method.aligned and client not in state.facts["merged"]))
    if not own:
        return asked | Request.SEND_UPDATE
    if method.frame == "adopt-one":
        return asked | Request.KEEP_MODEL
    if method.repair in ("repair", "rescale") and method.repair_targets == "clients":
        asked |= Request.SEND_STATISTICS
    if method.frame == "signatures":
        return asked | Request.KEEP_MODEL | Request.SEND_SIGNATURES
    return asked | Request.SEND_MODEL


def requests_in_order(orders: Mapping[ClientId, Perms]) -> Requests:
    """Return the requests for models in the neuron order that signatures led to."""
    return dict.fromkeys(orders, Request.SEND_MODEL)


def adoption_request(reports: Mapping[ClientId, Report]) -> Requests:
    """Return the request for the model of the client with the most examples; of equals, the first."""
    chosen = max(reports, key=lambda client: (reports[client].examples, -client))
    return {chosen: Request.SEND_MODEL}


def next_requests(
    method: Method,
    state: State,
    reports: Mapping[ClientId, Report],
    orders: Mapping[ClientId, Perms],
    received_models: bool,
) -> Requests:
    """Return what follows an exchange; {} where the replies can be aggregated.

    reports: of the clients that replied. orders: the neuron orders that their signatures led to. received_models: the
    round has models or updates already.
    """
    if orders:
        return requests_in_order(orders)
    if method.frame == "adopt-one" and reports and "weights" not in state.slots and not received_models:
        return adoption_request(reports)
    return {}
