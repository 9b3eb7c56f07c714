"""The server: opens a round (who takes part, what they get) and closes it (what came back, what failed)."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from onebasin.alignment.models import NotFiniteWeights
from onebasin.alignment.sketches import Sketch
from onebasin.codecs.codec import NotFinite, flatten, require_finite
from onebasin.codecs.context import CodingContext
from onebasin.codecs.value_block import ChangeHistory
from onebasin.core.layout import Tensors
from onebasin.core.seeds import derive
from onebasin.core.state import State
from onebasin.federation.cohort import cohort
from onebasin.federation.downlink_deltas import DIVERGED, VersionedModel, begin, held, tell
from onebasin.federation.engines.engine import ClientId, Failure, Reply
from onebasin.federation.privacy import SECRET, check_privacy, clipped, noised, secret_of
from onebasin.federation.protocol import Do, Protocol, Report
from onebasin.federation.round_result import Outcome
from onebasin.federation.run_config import ConfigError, RunConfig
from onebasin.federation.server.aggregate import Assembly
from onebasin.federation.server.aggregation_buffer import Arrivals, Contribution, RawUpdate
from onebasin.federation.server.replies import Answer, read_answer, require_buffers_like, within_bounds
from onebasin.federation.server.requests import Need, brings_model, write_order
from onebasin.learning.task import Task
from onebasin.methods.mask_overlap import nothing_in_common
from onebasin.methods.robust import TooFewReplies, require_replies
from onebasin.methods.server_optimizers import WeightedMean
from onebasin.methods.settings import ControlVariates, Privacy, Robust
from onebasin.networks.weights import buffers_of, clone, parameters_of
from onebasin.symmetry.spec import Perms
from onebasin.wire.error import Diverged, WireError
from onebasin.wire.ledger import Decoded

Orders = Mapping[ClientId, bytes]

NUMBERS = frozenset({"weights", "control", "momentum", "second"})
"""The slots whose values are finite, or the round that made them does not count."""

EXPECTED = (TooFewReplies, NotFinite, NotFiniteWeights)
"""What may keep well-formed replies from being put together; any other error may, where their numbers are extreme."""


class Server:
    """State: `weights`, `buffers` (the common model, absent until there is one; or what own masks have in common),
    `control` (SCAFFOLD's c), `momentum`, `second` (the combine step's memory), `sketches` (as the clients sent them),
    `frame/CLIENT` (permutations that a client has not yet answered to); facts: `met` (clients that have received a
    model), `merged` (those whose own models have become part of the common one), `frames` (the round in which
    permutations were found), `base` (the seed of the model from which all changes count, if it has one), `holds` (the
    versions of the common model that clients hold, where orders only tell its changes: see `broadcast`).
    """

    def __init__(self, config: RunConfig, task: Task) -> None:
        self.config = config
        self.method = config.method
        self.clients = len(task.parts)
        if config.federation.late >= self.clients:
            raise ConfigError(
                f"federation.late={config.federation.late} leaves none of {self.clients} clients to begin with"
            )
        if isinstance(self.method.combine, Robust):
            there = self.clients - config.federation.late
            try:
                require_replies(self.method.combine, min(config.federation.cohort or there, there))
            except TooFewReplies as error:
                raise ConfigError(f"method.{error}: see task.clients and federation.cohort") from None
        model = task.build_model(derive(config.seed, "init"))
        self.protocol = Protocol(config, task, model)
        check_privacy(config, len(self.protocol.buffers))
        self.assembly = Assembly(self.method, self.protocol.framing, task.workspace(), derive(config.seed, "assembly"))
        self.state = State(facts={"met": [], "merged": [], "frames": {}, "holds": {}, "base": None})
        if self.method.start == "shared-seed":
            self.state.facts["base"] = derive(config.seed, "init")
        if self.method.start != "local":
            weights = clone(parameters_of(model))
            weights = nothing_in_common(weights) if self.method.personal else weights
            self.state.slots |= {"weights": weights, "buffers": clone(buffers_of(model))}
            if self.protocol.tells_changes:
                begin(self.state, 0, self.state.slots["weights"])
        if isinstance(self.method.objective, ControlVariates):
            zeros = {name: torch.zeros_like(p) for name, p in parameters_of(model).items()}
            self.state.slots["control"] = zeros
        self.outcome = Outcome(0)
        self._asked: dict[ClientId, Do] = {}
        self._arrivals = self._nothing()
        self._frames: dict[ClientId, Perms] = {}

    @property
    def _noisy(self) -> Privacy | None:
        """The privacy that this side is to see to."""
        private = self.method.privacy
        return private if private is not None and private.at == "server" else None

    @property
    def has_model(self) -> bool:
        return "weights" in self.state.slots

    def open(self, round: int) -> Orders:
        """Return the round's first orders, client by client."""
        self.outcome = Outcome(round)
        self._arrivals, self._frames = self._nothing(), {}
        asked = cohort(self.config, self.clients, round)
        scored = Do.SCORE if self.method.scored_by_clients and self.is_evaluated(round) else Do(0)
        if not self.method.federated:
            return self._ask(dict.fromkeys(asked, Do.TRAIN | Do.KEEP_MODEL | scored))
        return self._ask({client: self._first_request(client) | scored for client in asked})

    def close(self, replies: Iterable[Reply]) -> Orders:
        """Take the replies, each once and in a fixed order; return further orders of the round, or none.

        A reply that is malformed, foreign or not finite is a failure, recorded with its reason; it changes nothing.
        """
        control = WeightedMean(self.protocol.parameters)
        reports: dict[ClientId, Report] = {}
        signatures: dict[ClientId, Tensors] = {}
        waiting = set(self._asked)
        for client, reply in replies:
            if client not in waiting:
                self.outcome.remarks[client] = "a reply came that nobody asked for, or a second one; it was not read"
                continue
            waiting.discard(client)
            if isinstance(reply, Failure):
                self.outcome.failures[client] = reply.reason
                if reply.reason.startswith(WireError.__name__):  # it may no longer hold what it is thought to
                    self.state.facts["holds"].pop(str(client), None)
                if reply.reason.startswith(Diverged.__name__):
                    self.state.facts["holds"][str(client)] = DIVERGED
                    self.outcome.decoded += Decoded(different=1)
                continue
            try:
                answer = self._checked(client, reply)
            except WireError as error:
                self.outcome.failures[client] = f"{type(error).__name__}: {error}"
                continue
            reports[client] = answer.report
            if answer.control is not None:
                control.add(answer.control, 1.0)
            if answer.signatures is not None:
                signatures[client] = answer.signatures
            self._take(client, answer)
        self.outcome.reports = {**reports, **self.outcome.reports}
        if not reports:
            return self._finish(control, 0)
        if signatures:
            return self._call_in(signatures, reports)
        if self.method.frame == "adopt-one" and not self.has_model and self._arrivals.empty:
            chosen = max(reports, key=lambda client: (reports[client].examples, -client))
            return self._ask({chosen: Do.SEND_MODEL})
        return self._finish(control, len(reports))

    def _checked(self, client: ClientId, reply: bytes) -> Answer:
        """Return what a reply says, as far as it may; `WireError`."""
        asked = self._asked[client]
        try:
            answer = read_answer(self.protocol, reply, asked, self._scene(client), self._known_of(client))
        except Diverged:
            self.outcome.decoded += Decoded(different=1)
            raise
        self.outcome.decoded += Decoded(equal=int(answer.is_coded))
        if self.has_model:
            require_buffers_like(answer, self.state.slots["buffers"])
        if self._noisy and answer.model is not None:  # codecs may have made it longer
            answer = replace(answer, model=clipped(answer.model, self._noisy))
        if self.method.norm_bound is not None and Do.SEND_UPDATE in asked:
            answer, remark = within_bounds(answer, self.method.norm_bound)
            if remark:
                self.outcome.remarks[client] = remark
        return answer

    def _first_request(self, client: ClientId) -> Do:
        """What a client is asked for at first: what it learned from the common model, or from its own."""
        asked = Do.TRAIN
        sketched = str(client) in self.state.slots.get("sketches", {})
        if self.method.sketched and not sketched:
            asked |= Do.SEND_SKETCH
        own = self.method.start == "local" and (
            not self.has_model or (self.method.aligned and client not in self.state.facts["merged"])
        )
        if not own:
            return asked | Do.SEND_UPDATE
        if self.method.frame == "adopt-one":
            return asked | Do.KEEP_MODEL
        if self.method.repair in ("repair", "rescale") and self.method.repair_targets == "clients":
            asked |= Do.SEND_STATISTICS
        if self.method.frame == "signatures":
            return asked | Do.KEEP_MODEL | Do.SEND_SIGNATURES
        return asked | Do.SEND_MODEL

    def _nothing(self) -> Arrivals:
        return Arrivals(self.protocol.parameters, self.protocol.buffers, self.assembly.whole)

    def _take(self, client: ClientId, answer: Answer) -> None:
        """Keep what a checked reply brings."""
        weight = self._weight(answer.report)
        asked = self._asked[client]
        if self._held is not None and brings_model(asked):
            self.state.facts["holds"][str(client)] = self._held.version
        self.state.slots.pop(f"frame/{client}", None)
        self.state.facts["frames"].pop(str(client), None)
        if answer.sketch is not None:
            raw = torch.frombuffer(bytearray(answer.sketch), dtype=torch.uint8)
            self.state.slots["sketches"] = {**self.state.slots.get("sketches", {}), str(client): raw}
        if answer.statistics is not None:
            self._arrivals.statistics[client] = (weight, answer.statistics)
        if answer.seed is not None and self.method.frame == "adopt-one":
            self.state.facts["base"] = answer.seed
        if answer.model is not None:
            update = Do.SEND_UPDATE in asked
            sent = Contribution(client, weight, answer.model, answer.buffers, met=update)
            self._arrivals.add(sent, self.state.slots["weights"] if update else None)
            if self.protocol.relays and answer.update is not None:
                self._arrivals.said.append(RawUpdate(client, weight, answer.update))
            if not update:
                self.state.facts["merged"] = sorted({*self.state.facts["merged"], client})

    def _weight(self, report: Report) -> float:
        return float(report.examples) if self.config.federation.weighting == "examples" else 1.0

    def _call_in(self, signatures: dict[ClientId, Tensors], reports: dict[ClientId, Report]) -> Orders:
        """Tell those who sent signatures their way into the common order, and ask for their models in it."""
        slots = self.state.slots
        common = slots["weights"] | slots["buffers"] if self.has_model else None
        weights = {client: self._weight(report) for client, report in reports.items()}
        self._frames = self.assembly.frames_by_signature(signatures, weights, common)
        self._remember(self._frames)
        return self._ask(dict.fromkeys(self._frames, Do.SEND_MODEL))

    def _finish(self, control: WeightedMean, replies: int) -> Orders:
        """End the round with the next common model."""
        if self._arrivals.empty:
            return {}
        slots = self._put_together(control, replies)
        if slots is None:
            return {}
        self.state.slots = slots
        self.outcome.remarks |= self._arrivals.remarks
        if self.protocol.tells_changes:
            base = self.state.facts["base"]
            if base is not None and self._held is None:
                begin(self.state, 0, self.protocol.initial(base)[0])
            tell(self.protocol, self.state, self.outcome.round, self._arrivals.said)
        if self.config.training.keep_optimizer and self.method.frame in ("weights", "activations"):
            self._remember(self._frames)
        return {}

    def _put_together(self, control: WeightedMean, replies: int) -> dict[str, Tensors] | None:
        """Return the slots after the round, without clients whose numbers keep it from ending; None if it cannot."""
        while not self._arrivals.empty:
            try:
                return self._next_slots(control, replies)
            except (ValueError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
                extreme = self._arrivals.drop_extreme()
                if isinstance(error, ValueError) and not (isinstance(error, EXPECTED) or extreme):
                    raise
                reason = f"the round's replies cannot be put together: {error}"
                self.outcome.failures |= dict.fromkeys(extreme or self.outcome.reports, reason)
                if not extreme:
                    return None
                for client in extreme:
                    self._frames.pop(client, None)
                self.state.facts["merged"] = [c for c in self.state.facts["merged"] if c not in extreme]
        return None

    def _next_slots(self, control: WeightedMean, replies: int) -> dict[str, Tensors]:
        """Return what the slots are after the round; a `ValueError` or `LinAlgError` where that would make no sense."""
        private = self._noisy
        if private is not None:
            secret = secret_of(self.state.facts, private, self.config.seed, "server")
            self.state.facts[SECRET] = secret
            deviation = private.noise * private.clip
            self._arrivals.update.change(lambda summed: noised(summed, deviation, secret, self.outcome.round))
        slots = self.assembly.next_model(
            self.outcome.round,
            self._arrivals,
            self.state.slots,
            self._sketches(),
            self._frames,
            self.protocol.part(self.outcome.round),
        )
        if "control" in slots and replies:  # SCAFFOLD, algorithm 1, line 17: c + |S|/N * mean change
            mean, share = control.result(), replies / self.clients
            slots["control"] = {name: c + share * mean[name] for name, c in slots["control"].items()}
        for slot in NUMBERS & slots.keys():
            require_finite(flatten(slots[slot]), slots[slot])
        return slots

    @property
    def _held(self) -> VersionedModel | None:
        """The common model as all who heard of it hold it, where orders only tell its changes."""
        return held(self.state)

    def _scene(self, client: ClientId) -> CodingContext:
        """What a client and the server both know of its reply: also the model from which it began."""
        began = flatten(self.state.slots["weights"]) if self.has_model else None
        held = began if self.protocol.tells_changes and brings_model(self._asked[client]) else None
        return CodingContext(self.protocol.run, self.outcome.round, client, known_model=began, base_model=held)

    def _known_of(self, client: ClientId) -> ChangeHistory | None:
        """What a client and the server both know of each value of its update."""
        common = self._held
        return common.moved if common is not None and brings_model(self._asked[client]) else None

    def _remember(self, frames: Mapping[ClientId, Perms]) -> None:
        """Keep the permutations that clients are to be told until they have answered."""
        for client, perms in frames.items():
            self.state.slots[f"frame/{client}"] = perms
            self.state.facts["frames"][str(client)] = self.outcome.round

    def _sketches(self) -> dict[ClientId, Sketch]:
        known = self.state.slots.get("sketches", {})
        framing = self.protocol.framing
        return {int(client): framing.read_sketch(raw.numpy().tobytes()) for client, raw in known.items()}

    def is_evaluated(self, round: int) -> bool:
        """Whether the model is scored after this round: every so many, and after the last."""
        federation = self.config.federation
        return round % federation.evaluate_every == 0 or round == federation.rounds

    def _ask(self, asked: dict[ClientId, Do]) -> Orders:
        """Return the orders: all clients that need the same get the same bytes.

        A model that has diverged beyond what the codec can say goes to nobody; every client's failure says so.
        """
        self._asked = asked
        met = set(self.state.facts["met"])
        written: dict[Need, bytes] = {}
        orders: dict[ClientId, bytes] = {}
        try:
            for client, do in asked.items():
                framed = client if f"frame/{client}" in self.state.slots else None
                need = Need(do, client not in met, framed, self.state.facts["holds"].get(str(client)))
                if need not in written:
                    written[need] = write_order(self.protocol, self.method, self.state, self.outcome.round, need)
                orders[client] = written[need]
        except NotFinite as error:
            self.outcome.failures |= dict.fromkeys(asked, f"the common model cannot be sent: {error}")
            return {}
        if self.has_model:
            met.update(client for client, do in asked.items() if brings_model(do))
            self.state.facts["met"] = sorted(met)
        return orders
