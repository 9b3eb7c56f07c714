"""A client: three functions on explicit state. Only `train` touches the data."""

from dataclasses import dataclass

import torch

from onebasin.config import ControlVariates, Proximal, RunConfig
from onebasin.protocol import Do, Protocol, Report, read_do, read_seed, write_report
from onebasin.seeds import derive
from onebasin.state import State
from onebasin.tasks.metrics import evaluate
from onebasin.tasks.task import Task
from onebasin.training.local import Start, Trained, TrainingFailed, train_locally
from onebasin.training.weights import buffers_of, clone, copy_into, parameters_of, transient_buffers_of
from onebasin.wire.layout import Tensors
from onebasin.wire.message import SERVER, Kind, Section, WireError

ORDER_SECTIONS = frozenset({"do", "seed", "weights", "buffers", "control"})


@dataclass(frozen=True)
class Work:
    """An order, understood: what to do in which round, from where. server_control: SCAFFOLD's c."""

    client: int
    round: int
    do: Do
    start: Start
    server_control: Tensors | None = None


@dataclass(frozen=True)
class Done:
    """Work, done."""

    work: Work
    trained: Trained
    report: Report


class Client:
    """What every client of a run executes; which one it is comes with each call, and so does all that it remembers.

    State: `weights`, `buffers` (its own model, where it keeps one), `optimizer`, `control` (SCAFFOLD's c_i).
    """

    def __init__(self, config: RunConfig, task: Task) -> None:
        self.config = config
        self.task = task
        self.model = task.workspace()
        self._fresh = clone(transient_buffers_of(self.model))
        self.protocol = Protocol(config, self.model)

    def begin(self, client: int, state: State, order: bytes) -> Work:
        """Read the order. A client starts from what the order brings, else from what it kept, else from its own seed.

        `WireError` when the order is not one for this client's run; the state is not touched.
        """
        message = self.protocol.read(order, SERVER)
        unknown = {section.name for section in message.sections} - ORDER_SECTIONS
        if unknown:
            raise WireError(f"the order has sections that are not known here: {sorted(unknown)}")
        control = message.section("control")
        server_control = None if control is None else self.protocol.downlink.decode(control.body)
        if message.section("weights") is not None:
            weights = self.protocol.downlink.decode(message.require("weights"))
            buffers = self.protocol.exact.decode(message.require("buffers")) if len(self.protocol.buffers) else {}
        elif message.section("seed") is not None:
            weights, buffers = self._initial(read_seed(message))
        elif "weights" in state.slots:
            weights, buffers = state.slots["weights"], state.slots["buffers"]
        else:
            weights, buffers = self._initial(derive(self.config.seed, "own-init", client))

        correction = None
        if isinstance(self.config.method.objective, ControlVariates):
            if server_control is None:
                raise WireError("the order has no section 'control'")
            own = self._own_control(state)
            correction = {name: c - own[name] for name, c in server_control.items()}
        objective = self.config.method.objective
        proximal = objective.mu if isinstance(objective, Proximal) else 0.0
        start = Start(weights, buffers, state.slots.get("optimizer", {}), proximal, correction)
        return Work(client, message.round, read_do(message), start, server_control)

    def train(self, work: Work) -> Done:
        """Do the work: train on this client's examples and score the result, each only if the order asks for it.

        `TrainingFailed` when there are no examples, the loss is no longer finite, or the model raises an error.
        """
        try:
            return self._train(work)
        except TrainingFailed:
            raise
        except Exception as error:  # a user's model may raise anything on a client's data
            raise TrainingFailed(f"{type(error).__name__}: {error}") from error

    def _train(self, work: Work) -> Done:
        copy_into(transient_buffers_of(self.model), self._fresh)
        indices = self.task.parts[work.client]
        trained = Trained(work.start.weights, work.start.buffers, work.start.optimizer, 0, float("nan"))
        if Do.TRAIN in work.do:
            seed = derive(self.config.seed, "train", work.round, work.client)
            trained = train_locally(
                self.model,
                work.start,
                self.task.dataset.train,
                indices,
                self.config.training,
                work.round,
                seed,
            )
        report = Report(len(indices), trained.steps, trained.loss)
        if Do.SCORE in work.do:
            copy_into(parameters_of(self.model), trained.weights)
            copy_into(buffers_of(self.model), trained.buffers)
            score = evaluate(self.model, self.task.dataset.test)
            report = Report(len(indices), trained.steps, trained.loss, score.accuracy, score.loss)
        return Done(work, trained, report)

    def finish(self, state: State, done: Done) -> tuple[State, bytes]:
        """Return the state after the round, and the reply. The state given is not changed.

        `NotFinite` when what would be sent has NaN or infinite values.
        """
        work, trained = done.work, done.trained
        slots = dict(state.slots)
        sections = [write_report(done.report)]
        if Do.SEND_UPDATE in work.do:
            update = {name: w - work.start.weights[name] for name, w in trained.weights.items()}
            sections.append(Section(Kind.UPDATE, "update", self.protocol.uplink.encode(update)))
        if Do.SEND_MODEL in work.do:
            sections.append(Section(Kind.UPDATE, "weights", self.protocol.uplink.encode(trained.weights)))
        if len(self.protocol.buffers) and work.do & (Do.SEND_UPDATE | Do.SEND_MODEL):
            sections.append(Section(Kind.UPDATE, "buffers", self.protocol.exact.encode(trained.buffers)))
        if work.server_control is not None and Do.TRAIN in work.do:
            body, slots["control"] = self._next_control(state, work, trained)
            sections.append(Section(Kind.UPDATE, "control", body))
        if Do.KEEP_MODEL in work.do:
            slots["weights"], slots["buffers"] = trained.weights, trained.buffers
        if self.config.training.keep_optimizer:
            slots["optimizer"] = trained.optimizer
        reply = self.protocol.write(work.round, work.client, sections)
        return State(slots, dict(state.facts)), reply

    def _initial(self, seed: int) -> tuple[Tensors, Tensors]:
        model = self.task.build_model(seed)
        return clone(parameters_of(model)), clone(buffers_of(model))

    def _own_control(self, state: State) -> Tensors:
        kept = state.slots.get("control")
        return kept or {e.name: torch.zeros(e.shape) for e in self.protocol.parameters.entries}

    def _next_control(self, state: State, work: Work, trained: Trained) -> tuple[bytes, Tensors]:
        """SCAFFOLD, eq. 4, option II: the coded change of c_i, and c_i as the receiver will count it."""
        assert work.server_control is not None
        rate = self.config.training.lr * self.config.training.lr_decay ** (work.round - 1)
        own = self._own_control(state)
        change = {
            name: (work.start.weights[name] - w) / (trained.steps * rate) - work.server_control[name]
            for name, w in trained.weights.items()
        }
        body = self.protocol.uplink.encode(change)
        received = self.protocol.uplink.decode(body)
        return body, {name: own[name] + received[name] for name in own}
