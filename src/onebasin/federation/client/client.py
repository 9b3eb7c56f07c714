"""A client: three functions on explicit state. Only `train` touches the data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from onebasin.codecs.chain import Chain
from onebasin.codecs.codec import flatten
from onebasin.codecs.context import CodingContext
from onebasin.codecs.residuals import read_residuals, with_residuals
from onebasin.codecs.stages.masked_noise import MaskedNoise as NoiseStage
from onebasin.core.layout import Tensors
from onebasin.core.seeds import derive, generator
from onebasin.core.state import State
from onebasin.federation.downlink_deltas import VersionedModel, first_version, heard, held
from onebasin.federation.neuron_messages import Frame
from onebasin.federation.privacy import SECRET, clipped, noised, secret_of
from onebasin.federation.protocol import Do, Protocol, Report, read_do, read_seed, write_report, write_seed
from onebasin.federation.run_config import RunConfig
from onebasin.learning.attacks import hostile_clients, poisoned
from onebasin.learning.local_training import Start, Trained, TrainingFailed
from onebasin.learning.metrics import Score, evaluate, evaluate_by_class
from onebasin.learning.parametrizations.masked_update import Masking
from onebasin.learning.reuse import train_or_recall
from onebasin.learning.task import Task
from onebasin.methods.mask_overlap import nothing_in_common, own_scores
from onebasin.methods.settings import ControlVariates, MaskedNoise, Overlap, Proximal
from onebasin.networks.weights import buffers_of, clone, copy_into, parameters_of, transient_buffers_of
from onebasin.wire.error import WireError
from onebasin.wire.message import SERVER, Kind, Message, Section

FRAME = "frame"
"""The fact that holds the number of the last frame that a client took on, so that none is taken on twice."""

ROUND = "round"
"""The fact that holds the last round that a client with something to remember answered, so that no older one is."""

MEMORY = "uplink/"
"""What the slots begin with in which the chain of the uplink keeps what it remembers."""

STATISTICS_EXAMPLES = 500
"""Of how many of its examples a client reports its neurons' statistics."""


@dataclass(frozen=True)
class Work:
    """An order, understood: what to do in which round, from where.

    own: from the client's own model. frame: the neuron order that the client must take on first.
    server_control: SCAFFOLD's c. held: the common model, where orders only tell its changes. common: what all have in
    common, where each client has a mask of its own.
    """

    client: int
    round: int
    do: Do
    start: Start
    own: bool
    frame: Frame | None = None
    server_control: Tensors | None = None
    held: VersionedModel | None = None
    common: Tensors | None = None

    @property
    def reference(self) -> Tensors:
        """What the server has, too: the client says how what it learned differs from that."""
        return self.start.weights if self.common is None else self.common


@dataclass(frozen=True)
class Done:
    """Work, done. sections: what else the client says, of its neurons and its inputs."""

    work: Work
    trained: Trained
    report: Report
    sections: tuple[Section, ...] = ()


class Client:
    """What every client of a run executes; which one it is comes with each call, and so does all that it remembers.

    State: `weights`, `buffers` (its own model, or scores, where it keeps some), `optimizer`, `control` (SCAFFOLD's
    c_i), `held` and `moved` (the common model, where orders only tell its changes), `uplink/STAGE` (what its chain left
    unsaid).
    """

    def __init__(self, config: RunConfig, task: Task) -> None:
        self.config = config
        self.task = task
        self.model = task.workspace()
        self._fresh = clone(transient_buffers_of(self.model))
        self.protocol = Protocol(config, task, self.model)
        self._hostile = hostile_clients(config.federation.attack, len(task.parts), config.seed)
        trained = config.method.parametrization
        what = "" if trained.kind == "dense" else trained.model_dump_json()
        self._identity = f"{config.task.model_dump_json()} {config.method.data} {config.seed}{what}"

    def begin(self, client: int, state: State, order: bytes) -> Work:
        """Read the order. A client starts from what the order brings, else from what it kept, else from its own seed.

        `WireError` when the order is not one for this client's run, or is older than one that it has answered; the
        state is not touched.
        """
        message = self.protocol.read(order, SERVER)
        foreign = {section.name for section in message.sections} - self.protocol.brought
        if foreign:
            raise WireError(f"the order has sections that this method has no use for: {sorted(foreign)}")
        if message.round < state.facts.get(ROUND, 0):
            raise WireError(f"the order is of round {message.round}; round {state.facts[ROUND]} is answered already")
        do = read_do(message, self.protocol.asked)
        permutation = message.section("permutation")
        frame = None if permutation is None else self.protocol.framing.read_permutations(permutation.body)
        state = self._in_frame(state, frame)
        control = message.section("control")
        server_control = None if control is None else self.protocol.downlink.receive(control.body, CodingContext())
        own = False
        common = self._common(message, state) if self.protocol.tells_changes else None
        if common is not None:
            weights, buffers = common.weights, {}
            if message.section("buffers") is not None:
                buffers = self.protocol.exact.decode(message.require("buffers"))
            elif len(self.protocol.buffers):
                buffers = self.protocol.initial(read_seed(message))[1]
        elif message.section("weights") is not None:
            weights = self.protocol.downlink.receive(message.require("weights"), CodingContext())
            buffers = self.protocol.exact.decode(message.require("buffers")) if len(self.protocol.buffers) else {}
        elif message.section("seed") is not None:
            weights, buffers = self.protocol.initial(read_seed(message))
        elif "weights" in state.slots:
            own = True
            weights, buffers = state.slots["weights"], state.slots["buffers"]
        else:
            own = True
            weights, buffers = self.protocol.initial(self._own_seed(client))
        in_common = None
        if isinstance(combine := self.config.method.combine, Overlap) and not own:
            initial = self.protocol.initial(read_seed(message))[0]
            in_common = nothing_in_common(initial) if message.section("weights") is None else weights
            weights = own_scores(combine, in_common, state.slots.get("weights", initial))

        correction = None
        if isinstance(self.config.method.objective, ControlVariates):
            if server_control is None:
                raise WireError("the order has no section 'control'")
            mine = self._own_control(state)
            correction = {name: c - mine[name] for name, c in server_control.items()}
        objective = self.config.method.objective
        proximal = objective.mu if isinstance(objective, Proximal) else 0.0
        free, masking = self._free(do, message.round), self._masking(do, message.round, client)
        start = Start(weights, buffers, state.slots.get("optimizer", {}), proximal, correction, free, masking)
        return Work(client, message.round, do, start, own, frame, server_control, common, in_common)

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
        indices = self.task.examples(work.client, alone=work.own)
        trained = Trained(work.start.weights, work.start.buffers, work.start.optimizer, 0, float("nan"))
        if Do.TRAIN in work.do:
            seed = derive(self.config.seed, "train", work.round, work.client)
            recipe = self.config.training
            if work.own:
                recipe = recipe.of_warmup
            model, start, masks = self.model, work.start, self.protocol.own_masks
            if work.own and masks is not None:
                model = masks.model(self._own_seed(work.client))
                start = replace(
                    start, weights=clone(parameters_of(model)), buffers=clone(buffers_of(model)), optimizer={}
                )
            trained = train_or_recall(
                f"{self._identity} {work.client}",
                model,
                start,
                self.task.dataset.train,
                indices,
                recipe,
                work.round,
                seed,
            )
            if work.own and masks is not None:
                trained = replace(trained, weights=masks.weights(model, trained.weights), optimizer={})
            attack = self.config.federation.attack
            if attack is not None and work.client in self._hostile:
                draws = generator(self.config.seed, "poison", work.round, work.client)
                trained = poisoned(attack, work.start.weights, trained, draws)
        report = Report(len(indices), trained.steps, trained.loss)
        if Do.SCORE in work.do:
            copy_into(parameters_of(self.model), trained.weights)
            copy_into(buffers_of(self.model), trained.buffers)
            score = self._score(work.client)
            if score is not None:
                report = replace(report, accuracy=score.accuracy, test_loss=score.loss)
        return Done(work, trained, report, tuple(self._said(work.do, trained, indices)))

    def _score(self, client: int) -> Score | None:
        """The score of the model in the workspace: on the test set, or on what of it is like this client's examples."""
        test = self.task.dataset.test
        if self.config.method.score not in ("personal", "fine-tuned"):
            return evaluate(self.model, test)
        return evaluate_by_class(self.model, test, self.task.dataset.classes).on(self.task.labels(client))

    def _said(self, do: Do, trained: Trained, indices: torch.Tensor) -> Iterator[Section]:
        """What alignment asks a client for, beside its model."""
        framing, data = self.protocol.framing, self.task.dataset.train
        state = trained.weights | trained.buffers
        if Do.SEND_SIGNATURES in do:
            yield Section(Kind.ALIGN, "signatures", framing.write_signatures(state))
        if Do.SEND_SKETCH in do:
            yield Section(Kind.ALIGN, "sketch", framing.write_sketch(data.inputs[indices], data.targets[indices]))
        if Do.SEND_STATISTICS in do:
            inputs = data.inputs[indices[:STATISTICS_EXAMPLES]]
            yield Section(Kind.ALIGN, "statistics", framing.write_statistics(state, inputs))

    def finish(self, state: State, done: Done) -> tuple[State, bytes]:
        """Return the state after the round, and the reply. The state given is not changed.

        `NotFinite` when what would be sent has NaN or infinite values.
        """
        work, trained = done.work, done.trained
        state = self._in_frame(state, work.frame)
        slots = dict(state.slots)
        facts, private = dict(state.facts), self.config.method.privacy
        report = done.report if private is None else Report(1, 0)  # counts and losses have no noise
        sections = [write_report(report), *done.sections]
        if Do.SEND_UPDATE in work.do:
            update = {name: w - work.reference[name] for name, w in trained.weights.items()}
            if private is not None:
                update = clipped(update, private)
                if private.at == "client":
                    facts[SECRET] = secret_of(facts, private, self.config.seed, work.client)
                    update = noised(update, private.noise * private.clip, facts[SECRET], work.round)
            body, kept = self._coded(work, update, state, flatten(work.reference))
            sections.append(Section(Kind.UPDATE, "update", body))
            slots = with_residuals(slots, MEMORY, kept, self.protocol.parameters)
        if Do.SEND_MODEL in work.do and self.protocol.seeded:
            seed = self._own_seed(work.client)
            began = self.protocol.initial(seed)[0]
            body, kept = self._coded(work, {n: w - began[n] for n, w in trained.weights.items()}, state, None)
            sections += [write_seed(seed), Section(Kind.UPDATE, "update", body)]
            slots = with_residuals(slots, MEMORY, kept, self.protocol.parameters)
        elif Do.SEND_MODEL in work.do and self.protocol.own_masks is not None:
            body = self.protocol.own_masks.write(trained.weights)
            sections += [write_seed(self._own_seed(work.client)), Section(Kind.UPDATE, "update", body)]
        elif Do.SEND_MODEL in work.do:
            sections.append(Section(Kind.UPDATE, "weights", self.protocol.models.encode(trained.weights)))
        if len(self.protocol.buffers) and work.do & (Do.SEND_UPDATE | Do.SEND_MODEL):
            sections.append(Section(Kind.UPDATE, "buffers", self.protocol.exact.encode(trained.buffers)))
        if work.server_control is not None and Do.TRAIN in work.do:
            body, slots["control"] = self._next_control(state, work, trained)
            sections.append(Section(Kind.UPDATE, "control", body))
        if not work.own:  # a common model has taken the place of what was kept
            slots.pop("weights", None)
            slots.pop("buffers", None)
        if Do.KEEP_MODEL in work.do or self.config.method.personal:
            slots["weights"], slots["buffers"] = trained.weights, trained.buffers
        if self.config.training.keep_optimizer:
            slots["optimizer"] = trained.optimizer
        after = State(slots, facts)
        if work.held is not None:
            work.held.into(after)
        if after.slots:
            after.facts[ROUND] = work.round
        return after, self.protocol.write(work.round, work.client, sections)

    def _coded(
        self, work: Work, update: Tensors, state: State, reference: torch.Tensor | None
    ) -> tuple[bytes, dict[str, torch.Tensor]]:
        """Return an update as bytes, and what its chain is to remember. reference: the server has it, too."""
        memory = read_residuals(state.slots, MEMORY)
        held = reference if self.protocol.tells_changes else None
        context = CodingContext(
            self.protocol.run, work.round, work.client, memory, known_model=reference, base_model=held
        )
        body = self.protocol.uplink.body(update, context, None if work.held is None else work.held.moved)
        return body, context.next_residuals

    def _in_frame(self, state: State, frame: Frame | None) -> State:
        """Return the state with its neurons in the frame's order, unless they are in it already."""
        if frame is None or frame.number <= state.facts.get(FRAME, 0):
            return state
        permuted = self.protocol.framing.permuted(state, frame.perms)
        permuted.facts[FRAME] = frame.number
        return permuted

    def _common(self, message: Message, state: State) -> VersionedModel | None:
        """The common model after an order that tells its changes, perhaps since a model that a seed stands for."""
        known = held(state)
        if message.section("seed") is not None:
            known = first_version(0, self.protocol.initial(read_seed(message))[0])
        return heard(self.protocol, message, known)

    def _free(self, do: Do, round: int) -> Tensors | None:
        """Which values an order trains, where only those are that its reply can say; None for all."""
        if self.config.method.trains == "all" or not self._says_change(do):
            return None
        return self.protocol.part(round)

    def _masking(self, do: Do, round: int, client: int) -> Masking | None:
        """The noise that the reply to an order will be masked of, where that is what is trained."""
        chosen = self.config.method.parametrization
        if not isinstance(chosen, MaskedNoise) or not self._says_change(do):
            return None
        coding = self.protocol.uplink.at(round)
        assert isinstance(coding, Chain)
        stage = coding.stages[-1]
        assert isinstance(stage, NoiseStage)
        noise = stage.draw(self.protocol.parameters.numel, CodingContext(self.protocol.run, round, client))
        return Masking(self.protocol.parameters.split(noise), stage.signed, chosen.progressive)

    def _says_change(self, do: Do) -> bool:
        """Whether a reply says what was learned, by the uplink's chain: since the common model, or the own start."""
        return Do.SEND_UPDATE in do or self.protocol.seeded

    def _own_seed(self, client: int) -> int:
        """Of the weights that a client begins with by itself."""
        return derive(self.config.seed, "own-init", client)

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
        body, received = self.protocol.uplink.send(change, CodingContext())
        return body, {name: own[name] + received[name] for name in own}
