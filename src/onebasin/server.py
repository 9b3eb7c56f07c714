"""The server: opens a round (who takes part, what they get) and closes it (what came back, what failed)."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch

from onebasin.combine import WeightedMean, apply_update
from onebasin.config import ControlVariates, RunConfig
from onebasin.engines.engine import ClientId, Failure, Reply
from onebasin.protocol import Do, Protocol, Report, read_report, write_do, write_seed
from onebasin.seeds import derive, generator
from onebasin.state import State
from onebasin.tasks.task import Task
from onebasin.training.weights import buffers_of, clone, parameters_of
from onebasin.updates.codec import NotFinite
from onebasin.wire.layout import Tensors
from onebasin.wire.message import SERVER, Kind, Message, Section, WireError

Orders = Mapping[ClientId, bytes]


@dataclass
class Outcome:
    """What a round brought: the reports of those who answered, and the reasons of those who did not."""

    round: int
    reports: dict[ClientId, Report] = field(default_factory=dict)
    failures: dict[ClientId, str] = field(default_factory=dict)

    def mean(self, number: Callable[[Report], float]) -> float | None:
        """Return the plain mean of a report's number over the clients that have it; None if none has."""
        known = [value for report in self.reports.values() if not math.isnan(value := number(report))]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class _Parts:
    """A reply, decoded and checked."""

    report: Report
    model: Tensors | None
    buffers: Tensors
    control: Tensors | None


class Server:
    """State: `weights`, `buffers` (the common model, absent until there is one), `control` (SCAFFOLD's c),
    `momentum`, `second` (the combine step's memory); fact `met`: the clients that have received a model.
    """

    def __init__(self, config: RunConfig, task: Task) -> None:
        self.config = config
        self.method = config.method
        self.clients = len(task.parts)
        model = task.build_model(derive(config.seed, "init"))
        self.protocol = Protocol(config, model)
        self.state = State(facts={"met": []})
        if self.method.start != "local":
            self.state.slots |= {"weights": clone(parameters_of(model)), "buffers": clone(buffers_of(model))}
        if isinstance(self.method.objective, ControlVariates):
            zeros = {name: torch.zeros_like(p) for name, p in parameters_of(model).items()}
            self.state.slots["control"] = zeros
        self.outcome = Outcome(0)
        self._asked: Do = Do(0)

    @property
    def has_model(self) -> bool:
        return "weights" in self.state.slots

    def open(self, round: int) -> Orders:
        """Return the round's first orders, client by client."""
        self.outcome = Outcome(round)
        cohort = self._cohort(round)
        if not self.method.federated:
            scored = Do.SCORE if self.is_evaluated(round) else Do(0)
            return self._ask(cohort, Do.TRAIN | Do.KEEP_MODEL | scored)
        if self.has_model:
            return self._ask(cohort, Do.TRAIN | Do.SEND_UPDATE)
        if self.method.frame == "adopt-one":
            return self._ask(cohort, Do.TRAIN | Do.KEEP_MODEL)
        return self._ask(cohort, Do.TRAIN | Do.SEND_MODEL)

    def close(self, replies: Iterable[Reply]) -> Orders:
        """Take the replies, each once and in a fixed order; return further orders of the round, or none.

        A reply that is malformed, foreign or not finite is a failure, recorded with its reason; it changes nothing.
        """
        model = WeightedMean(self.protocol.parameters)
        buffers = WeightedMean(self.protocol.buffers)
        control = WeightedMean(self.protocol.parameters)
        reports: dict[ClientId, Report] = {}
        for client, reply in replies:
            if isinstance(reply, Failure):
                self.outcome.failures[client] = reply.reason
                continue
            try:
                parts = self._read(client, reply)
            except WireError as error:
                self.outcome.failures[client] = f"WireError: {error}"
                continue
            reports[client] = parts.report
            weight = float(parts.report.examples) if self.config.federation.weighting == "examples" else 1.0
            if parts.model is not None:
                model.add(parts.model, weight)
                buffers.add(parts.buffers, weight)
            if parts.control is not None:
                control.add(parts.control, 1.0)
        self.outcome.reports = {**reports, **self.outcome.reports}
        if not reports:
            return {}
        if self._asked & (Do.SEND_UPDATE | Do.SEND_MODEL):
            if Do.SEND_UPDATE in self._asked:
                self.state.slots = apply_update(self.method.combine, self.state.slots, model.result())
            else:
                self.state.slots["weights"] = model.result()
            self.state.slots["buffers"] = buffers.result() if len(self.protocol.buffers) else {}
            self._count_control(control, len(reports))
        elif self.method.frame == "adopt-one":
            chosen = max(reports, key=lambda client: (reports[client].examples, -client))
            return self._ask([chosen], Do.SEND_MODEL)
        return {}

    def is_evaluated(self, round: int) -> bool:
        """Whether the model is scored after this round: every so many, and after the last."""
        federation = self.config.federation
        return round % federation.evaluate_every == 0 or round == federation.rounds

    def _cohort(self, round: int) -> list[ClientId]:
        size = self.config.federation.cohort
        if not size or size >= self.clients or not self.method.federated:
            return list(range(self.clients))
        draw = torch.randperm(self.clients, generator=generator(self.config.seed, "cohort", round))
        return sorted(int(client) for client in draw[:size])

    def _ask(self, cohort: list[ClientId], do: Do) -> Orders:
        """Return the orders: all clients that need the same get the same bytes.

        A model that has diverged beyond what the codec can say goes to nobody; every client's failure says so.
        """
        self._asked = do
        met = set(self.state.facts["met"])
        try:
            written = {first: self._order(do, first) for first in {client not in met for client in cohort}}
        except NotFinite as error:
            self.outcome.failures |= dict.fromkeys(cohort, f"the common model cannot be sent: {error}")
            return {}
        if Do.TRAIN in do and self.has_model:
            self.state.facts["met"] = sorted(met.union(cohort))
        return {client: written[client not in met] for client in cohort}

    def _order(self, do: Do, first: bool) -> bytes:
        sections = [write_do(do)]
        slots = self.state.slots
        if Do.TRAIN in do and self.has_model:
            kind = Kind.INIT if first else Kind.UPDATE
            if self.method.start == "shared-seed" and self.outcome.round == 1:
                sections.append(write_seed(derive(self.config.seed, "init")))
            else:
                sections.append(Section(kind, "weights", self.protocol.downlink.encode(slots["weights"])))
                if len(self.protocol.buffers):
                    sections.append(Section(kind, "buffers", self.protocol.exact.encode(slots["buffers"])))
        if Do.TRAIN in do and "control" in slots:
            body = self.protocol.downlink.encode(slots["control"])
            sections.append(Section(Kind.UPDATE, "control", body))
        return self.protocol.write(self.outcome.round, SERVER, sections)

    def _read(self, client: ClientId, reply: bytes) -> _Parts:
        """Return the reply's parts, all of them checked; `WireError` otherwise."""
        message = self.protocol.read(reply, client)
        if message.round != self.outcome.round:
            raise WireError(f"the reply is to round {message.round}, not to round {self.outcome.round}")
        report = read_report(message)
        if report.examples == 0:
            raise WireError("the client reports that it holds no examples")
        expected = self._expected_sections()
        if {section.name for section in message.sections} != expected:
            raise WireError(f"the reply has {[s.name for s in message.sections]}; expected {sorted(expected)}")
        return _Parts(report, self._model_of(message), self._buffers_of(message), self._control_of(message))

    def _expected_sections(self) -> set[str]:
        expected = {"report"}
        if Do.SEND_UPDATE in self._asked:
            expected.add("update")
        if Do.SEND_MODEL in self._asked:
            expected.add("weights")
        if len(expected) > 1 and len(self.protocol.buffers):
            expected.add("buffers")
        if Do.TRAIN in self._asked and "control" in self.state.slots:
            expected.add("control")
        return expected

    def _model_of(self, message: Message) -> Tensors | None:
        section = message.section("update") or message.section("weights")
        return None if section is None else self.protocol.uplink.decode(section.body)

    def _buffers_of(self, message: Message) -> Tensors:
        section = message.section("buffers")
        return {} if section is None else self.protocol.exact.decode(section.body)

    def _control_of(self, message: Message) -> Tensors | None:
        section = message.section("control")
        return None if section is None else self.protocol.uplink.decode(section.body)

    def _count_control(self, changes: WeightedMean, replies: int) -> None:
        """SCAFFOLD, algorithm 1, line 17: c + |S|/N * mean change."""
        if "control" in self.state.slots:
            mean, share = changes.result(), replies / self.clients
            self.state.slots["control"] = {n: c + share * mean[n] for n, c in self.state.slots["control"].items()}
