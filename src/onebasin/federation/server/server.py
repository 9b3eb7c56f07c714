"""The server: it opens a round with requests, and closes it with the replies and the next global model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from onebasin.codecs.codec import NotFinite, flatten, require_finite
from onebasin.codecs.context import CodingContext
from onebasin.codecs.value_block import ChangeHistory
from onebasin.core.clients import ClientId, Failure, Reply
from onebasin.core.layout import Tensors
from onebasin.core.seeds import derive
from onebasin.core.settings import ConfigError
from onebasin.core.state import State
from onebasin.federation.cohort import cohort
from onebasin.federation.downlink_deltas import (
    DIVERGED,
    advance_version,
    broadcast_model,
    start_versions,
)
from onebasin.federation.messages import Report, Request
from onebasin.federation.protocol import Protocol
from onebasin.federation.round_result import RoundResult
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.aggregate import Aggregator
from onebasin.federation.server.aggregation_buffer import AggregationBuffer
from onebasin.federation.server.phases import Requests, next_requests, training_requests
from onebasin.federation.server.replies import CheckedReply, read_reply, require_buffers_like
from onebasin.federation.server.requests import RequestKey, encode_request
from onebasin.federation.server.round_in_progress import RoundInProgress
from onebasin.federation.update_forwarding import RawUpdate
from onebasin.learning.task import Task
from onebasin.methods.aggregation_rule import ClientModel, TooFewReplies, first_memory
from onebasin.networks.weights import buffers_of, clone, parameters_of
from onebasin.wire.error import Diverged, WireError
from onebasin.wire.ledger import Decoded

if TYPE_CHECKING:
    from onebasin.alignment.sketches import Sketch

EncodedRequests = Mapping[ClientId, bytes]
"""The requests of an exchange, by client."""


class Server:
    """The server of a run. Its state is in `state`, and in `round` for a round in progress.

    Slots of the state:
    `weights`, `buffers`: the global model, absent until there is one; with personal masks, for each weight 1 if all
    clients must keep it, -1 if all must drop it, 0 if each decides (methods/aggregation/overlap.py);
    `control`, `momentum`, ...: what hooks and the aggregation rule keep;
    `held`: the weights of the last version of the global model, which clients hold, too (downlink_deltas.py);
    `moved`: for each of these values, whether it changed in the last two rounds;
    `log`: the encoded deltas, by the round that made them;
    `sketches`: of clients' inputs, encoded;
    `frame/CLIENT`: permutations to a new neuron order, until the client has replied to the request that has them.

    Facts of the state:
    `met`: the clients that have received a model;
    `merged`: the clients whose own models were merged into the global model;
    `frames`: by client, the round in which the permutations of `frame/CLIENT` were found;
    `base`: the seed of the initial model (version 0); None if no seed determines it;
    `holds`: by client, the version of the global model that it has (`DIVERGED` if it decoded another model);
    `since`: the oldest version from which the log has all later deltas.
    """

    def __init__(self, config: RunConfig, task: Task) -> None:
        """Make the server before round 1.

        Raises ConfigError or ValueError if the configuration does not go with the task's data or model.
        """
        self.config, self.method = config, config.method
        self.clients = len(task.parts)
        self._check_cohorts()
        model = task.build_model(derive(config.seed, "init"))
        self.protocol = Protocol(config, task, model)
        if self.method.probed:
            self.protocol.neurons.require_probes()
        seed = derive(config.seed, "assembly")
        self.aggregator = Aggregator(self.method, self.protocol, task.workspace(), seed)
        self.state = State(facts={"met": [], "merged": [], "frames": {}, "holds": {}, "base": None})
        if self.method.start == "shared-seed":
            self.state.facts["base"] = derive(config.seed, "init")
        if self.method.start != "local":
            self.state.slots |= {"weights": clone(parameters_of(model)), "buffers": clone(buffers_of(model))}
        for hook in self.protocol.hooks:
            hook.begin(self.state)
        if self.has_model and self.protocol.sends_deltas:
            start_versions(self.state, 0, self.state.slots["weights"])
        memory = first_memory(self.method.combine, parameters_of(model))
        kept_by_hooks = (slot for hook in self.protocol.hooks for slot in hook.slots)
        self._finite_slots = {"weights", *memory, *kept_by_hooks}
        self.round = RoundInProgress(RoundResult(0), self._empty_buffer())

    @property
    def result(self) -> RoundResult:
        """The result of the current round so far."""
        return self.round.result

    @property
    def has_model(self) -> bool:
        """Whether there is a global model."""
        return "weights" in self.state.slots

    def save(self) -> State:
        """Return a new state with that of the server and that of a round in progress (also between its exchanges)."""
        return self.round.into(self.state)

    def restore(self, saved: State) -> None:
        """Continue from a state that `save` returned."""
        self.round, self.state = RoundInProgress.out_of(saved, self._empty_buffer())

    def open(self, round: int) -> EncodedRequests:
        """Begin a round, and return the requests of its first exchange."""
        self.round = RoundInProgress(RoundResult(round), self._empty_buffer())
        clients = cohort(self.config, self.clients, round)
        return self._encode(training_requests(self.method, self.state, clients, self.is_evaluated(round)))

    def close(self, replies: Iterable[Reply]) -> EncodedRequests:
        """End an exchange with its replies; return the requests of the next one, or {} if the round is complete.

        replies: in a fixed order, so that sums are the same bit for bit. A reply that is malformed, of another run, or
        not finite is recorded as a failure with its reason, and has no other effect.
        """
        reports: dict[ClientId, Report] = {}
        signatures: dict[ClientId, Tensors] = {}
        for client, reply in replies:
            checked = self._accepted(client, reply)
            if checked is not None:
                reports[client] = checked.report
                if checked.signatures is not None:
                    signatures[client] = checked.signatures
        self.result.reports = {**reports, **self.result.reports}
        if signatures:
            self._find_neuron_orders(signatures, reports)
        orders = self.round.orders if signatures else {}
        following = next_requests(self.method, self.state, reports, orders, not self.round.buffer.empty)
        if following:
            return self._encode(following)
        self._aggregate()
        return {}

    def is_evaluated(self, round: int) -> bool:
        """Return whether models are scored after a round: in each `evaluate_every`-th round, and after the last."""
        federation = self.config.federation
        return round % federation.evaluate_every == 0 or round == federation.rounds

    # Replies

    def _accepted(self, client: ClientId, reply: bytes | Failure) -> CheckedReply | None:
        """Check a reply, and add it to the round; return None for a failure, which is recorded."""
        request = self.round.requests.pop(client, None)
        if request is None:
            self.result.remarks[client] = "a reply came that nobody asked for, or a second one; it was not read"
            return None
        if isinstance(reply, Failure):
            self._record_failure(client, reply.reason)
            return None
        try:
            checked = self._checked(client, reply, request)
        except WireError as error:
            self.result.failures[client] = f"{type(error).__name__}: {error}"
            return None
        self._add(client, checked, request)
        return checked

    def _record_failure(self, client: ClientId, reason: str) -> None:
        self.result.failures[client] = reason
        if reason.startswith(WireError.__name__):  # the client may have lost the version that it is believed to have
            self.state.facts["holds"].pop(str(client), None)
        if reason.startswith(Diverged.__name__):
            self.state.facts["holds"][str(client)] = DIVERGED
            self.result.decoded += Decoded(different=1)

    def _checked(self, client: ClientId, reply: bytes, request: Request) -> CheckedReply:
        """Return a decoded reply after the checks of all hooks. Raises WireError if it is refused."""
        try:
            checked = read_reply(self.protocol, reply, request, self._context(client, request), self._history(request))
        except Diverged:
            self.result.decoded += Decoded(different=1)
            raise
        self.result.decoded += Decoded(equal=int(checked.is_coded))  # `read_reply` has compared: it raises `Diverged`
        if self.has_model:
            require_buffers_like(checked, self.state.slots["buffers"])
        for hook in self.protocol.hooks:
            checked, remark = hook.check(checked)
            if remark:
                self.result.remarks[client] = remark
        return checked

    def _add(self, client: ClientId, reply: CheckedReply, request: Request) -> None:
        """Add a checked reply to the round."""
        for section, tensors in reply.extra.items():
            self.round.buffer.extra(section).add(tensors, 1.0)
        weight = self._weight(reply.report)
        version = broadcast_model(self.state)
        if version is not None and request.brings_model:
            self.state.facts["holds"][str(client)] = version.version
        self.state.slots.pop(f"frame/{client}", None)
        self.state.facts["frames"].pop(str(client), None)
        if reply.sketch is not None:
            raw = torch.frombuffer(bytearray(reply.sketch), dtype=torch.uint8)
            self.state.slots["sketches"] = {**self.state.slots.get("sketches", {}), str(client): raw}
        if reply.statistics is not None:
            self.round.buffer.statistics[client] = (weight, reply.statistics)
        if reply.update is not None:
            self._add_update(client, weight, reply, reply.update)
        if reply.own_model is not None:
            if reply.own_model.seed is not None and self.method.frame == "adopt-one":
                self.state.facts["base"] = reply.own_model.seed
            weights = reply.own_model.build(self.protocol)
            self.round.buffer.add_model(ClientModel(client, weight, weights, reply.buffers, joined=False))
            self.state.facts["merged"] = sorted({*self.state.facts["merged"], client})

    def _add_update(self, client: ClientId, weight: float, reply: CheckedReply, update: Tensors) -> None:
        steps = reply.report.steps
        prepared = self.method.combine.prepare(update, steps)
        sent = ClientModel(client, weight, prepared, reply.buffers, joined=True, steps=steps)
        self.round.buffer.add_update(sent, self.state.slots["weights"])
        if self.protocol.forwards_updates and reply.raw_update is not None:
            self.round.buffer.raw_updates.append(RawUpdate(client, weight, reply.raw_update))

    def _weight(self, report: Report) -> float:
        return float(report.examples) if self.config.federation.weighting == "examples" else 1.0

    def _context(self, client: ClientId, request: Request) -> CodingContext:
        """Return the coding context of a client's reply: its round, and the global model from which it started.

        If requests encode deltas, the check of the reply covers the sum of this model and the update (`base_model`).
        """
        start_model = flatten(self.state.slots["weights"]) if self.has_model else None
        base = start_model if self.protocol.sends_deltas and request.brings_model else None
        return CodingContext(self.protocol.run, self.result.round, client, known_model=start_model, base_model=base)

    def _history(self, request: Request) -> ChangeHistory | None:
        """Return the history of changes of each value, which both sides know; None for none."""
        model = broadcast_model(self.state)
        return model.change_history if model is not None and request.brings_model else None

    # The next model

    def _find_neuron_orders(self, signatures: Mapping[ClientId, Tensors], reports: Mapping[ClientId, Report]) -> None:
        """Find the permutations of the clients that sent signatures; the next requests have them."""
        slots = self.state.slots
        common = slots["weights"] | slots["buffers"] if self.has_model else None
        weights = {client: self._weight(report) for client, report in reports.items()}
        self.round.orders = self.aggregator.aligner.by_signatures(signatures, weights, common)
        self._keep_orders()

    def _aggregate(self) -> None:
        """End the round with the next global model, if there is anything to make it of."""
        if self.round.buffer.empty:
            return
        slots = self._next_slots_without_extremes()
        if slots is None:
            return
        self.state.slots = slots
        self.result.remarks |= self.round.buffer.remarks
        if self.protocol.sends_deltas:
            base = self.state.facts["base"]
            if base is not None and broadcast_model(self.state) is None:
                start_versions(self.state, 0, self.protocol.initial_model(base)[0])
            advance_version(self.protocol, self.state, self.result.round, self.round.buffer.raw_updates)
        if self.config.training.keep_optimizer and self.method.frame in ("weights", "activations"):
            self._keep_orders()  # clients must bring their optimiser states into the order of the merged model

    def _next_slots_without_extremes(self) -> dict[str, Tensors] | None:
        """Return the slots after the round; None if its replies cannot be aggregated.

        If aggregation fails, clients that sent extreme values are left out, and it is tried again with the others.
        """
        expected: tuple[type[ValueError], ...] = (TooFewReplies, NotFinite, *self._errors_of_alignment())
        while not self.round.buffer.empty:
            try:
                return self._next_slots()
            except (ValueError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
                extreme = self.round.buffer.drop_extreme()
                if isinstance(error, ValueError) and not (isinstance(error, expected) or extreme):
                    raise
                reason = f"the round's replies cannot be put together: {error}"
                self.result.failures |= dict.fromkeys(extreme or self.result.reports, reason)
                if not extreme:
                    return None
                for client in extreme:
                    self.round.orders.pop(client, None)
                self.state.facts["merged"] = [c for c in self.state.facts["merged"] if c not in extreme]
        return None

    def _errors_of_alignment(self) -> tuple[type[ValueError], ...]:
        """Return the errors that merging raises for well-formed replies; () if the method does not merge."""
        if not self.aggregator.needs_whole_models:
            return ()
        from onebasin.alignment.models import NotFiniteWeights

        return (NotFiniteWeights,)

    def _next_slots(self) -> dict[str, Tensors]:
        """Return the slots after the round.

        Raises ValueError if there are too few replies or a result is not finite, LinAlgError if a decomposition fails.
        """
        buffer, round = self.round.buffer, self.result.round
        for hook in self.protocol.hooks:
            hook.before_aggregation(self.state, buffer, round)
        slots = self.aggregator.next_model(
            round, buffer, self.state.slots, self._sketches(), self.round.orders, self.protocol.sent_mask(round)
        )
        for hook in self.protocol.hooks:
            hook.after_aggregation(slots, buffer)
        for slot in self._finite_slots & slots.keys():
            require_finite(flatten(slots[slot]), slots[slot])
        return slots

    def _keep_orders(self) -> None:
        """Store the permutations of the round; each client's next requests have its own until it has replied."""
        for client, perms in self.round.orders.items():
            self.state.slots[f"frame/{client}"] = perms
            self.state.facts["frames"][str(client)] = self.result.round

    def _sketches(self) -> dict[ClientId, Sketch]:
        known = self.state.slots.get("sketches", {})
        return {int(client): self.protocol.neurons.read_sketch(raw.numpy().tobytes()) for client, raw in known.items()}

    # Requests

    def _encode(self, requests: Requests) -> EncodedRequests:
        """Encode requests; clients that need the same content get the same bytes.

        If the global model has values that the codec cannot encode, nothing is sent; each client's failure says so.
        """
        self.round.requests = dict(requests)
        received = set(self.state.facts["met"])
        by_key: dict[RequestKey, bytes] = {}
        encoded: dict[ClientId, bytes] = {}
        try:
            for client, request in requests.items():
                reordered = client if f"frame/{client}" in self.state.slots else None
                version = self.state.facts["holds"].get(str(client))
                key = RequestKey(request, client not in received, reordered, version)
                if key not in by_key:
                    by_key[key] = encode_request(self.protocol, self.state, self.result.round, key)
                encoded[client] = by_key[key]
        except NotFinite as error:
            self.result.failures |= dict.fromkeys(requests, f"the common model cannot be sent: {error}")
            return {}
        if self.has_model:
            received.update(client for client, request in requests.items() if request.brings_model)
            self.state.facts["met"] = sorted(received)
        return encoded

    def _empty_buffer(self) -> AggregationBuffer:
        whole = self.aggregator.needs_whole_models
        return AggregationBuffer(self.protocol.parameters, self.protocol.buffers, whole)

    def _check_cohorts(self) -> None:
        """Raise ConfigError if the task has too few clients for the federation's settings."""
        federation = self.config.federation
        if federation.late >= self.clients:
            raise ConfigError(f"federation.late={federation.late} leaves none of {self.clients} clients to begin with")
        at_first = self.clients - federation.late
        try:
            if self.method.combine.sees_each_model:
                self.method.combine.require_replies(min(federation.cohort or at_first, at_first))
        except TooFewReplies as error:
            raise ConfigError(f"method.{error}: see task.clients and federation.cohort") from None
