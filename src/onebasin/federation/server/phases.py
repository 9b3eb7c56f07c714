"""The phases of a round: which clients are asked for what, and what follows from their replies.

A round is a sequence of exchanges. In the first one, all clients of the cohort train. If they sent signatures, the
server finds the common neuron order, and requests their models in this order. If the method adopts one client's model,
and there is no global model yet, the server requests the model of the client with the most examples. After the last
exchange the replies are aggregated.
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
    """Return the requests of the first exchange of a round. scored: clients also score their models."""
    score = Request.SCORE if method.scored_by_clients and scored else Request(0)
    if not method.federated:
        return dict.fromkeys(cohort, Request.TRAIN | Request.KEEP_MODEL | score)
    return {client: _training_request(method, state, client) | score for client in cohort}


def _training_request(method: Method, state: State, client: ClientId) -> Request:
    """Return the request to one client: for an update to the global model, or for its own model to be merged."""
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
    """Return the requests for models in the neuron order that was found from signatures."""
    return dict.fromkeys(orders, Request.SEND_MODEL)


def adoption_request(reports: Mapping[ClientId, Report]) -> Requests:
    """Return the request for the model of the client with the most examples; of several, the first."""
    chosen = max(reports, key=lambda client: (reports[client].examples, -client))
    return {chosen: Request.SEND_MODEL}


def next_requests(
    method: Method,
    state: State,
    reports: Mapping[ClientId, Report],
    orders: Mapping[ClientId, Perms],
    received_models: bool,
) -> Requests:
    """Return the requests of the next exchange; {} if the replies can be aggregated.

    reports: of the clients that replied.
    orders: the permutations that were found from their signatures, by client.
    received_models: the server has received models or updates in this round.
    """
    if orders:
        return requests_in_order(orders)
    if method.frame == "adopt-one" and reports and "weights" not in state.slots and not received_models:
        return adoption_request(reports)
    return {}
