"""The protocol: what both sides know before the first byte, and how they read each other's messages."""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag
from functools import partial
from typing import Any

from torch import nn

from onebasin.codecs.codec import Codec, FixedLengthCodec
from onebasin.codecs.context import CodingContext
from onebasin.codecs.dense import Exact, Fp32
from onebasin.codecs.named_codecs import make_codec, make_fixed_length_codec
from onebasin.codecs.split_codec import SplitCodec
from onebasin.codecs.warmup_schedule import WarmupSchedule
from onebasin.core.layout import Layout, Tensors
from onebasin.federation.neuron_messages import Framing
from onebasin.federation.run_config import RunConfig
from onebasin.learning.parametrizations.supermask import is_score
from onebasin.learning.seed_and_mask import OwnMasks
from onebasin.learning.task import Task
from onebasin.methods.method import Method
from onebasin.methods.settings import RELAY, BackboneMask, ControlVariates
from onebasin.networks.weights import buffers_of, clone, parameters_of
from onebasin.wire.error import WireError
from onebasin.wire.message import Kind, Message, Section, decode_message, encode_message
from onebasin.wire.numbers import read_number, write_number

_SEED = struct.Struct("<Q")
_DO = struct.Struct("<B")
_LOSS = struct.Struct("<f")
_SCORE = struct.Struct("<ff")
_SLACK = 4096


class Do(IntFlag):
    """What an order asks for, in any combination."""

    TRAIN = 1
    SEND_UPDATE = 2
    SEND_MODEL = 4
    KEEP_MODEL = 8
    SCORE = 16
    SEND_SIGNATURES = 32
    SEND_SKETCH = 64
    SEND_STATISTICS = 128


@dataclass(frozen=True)
class Report:
    """A client's numbers: its examples, the steps it made, its training loss, its model's score (NaN if unasked)."""

    examples: int
    steps: int
    loss: float = math.nan
    accuracy: float = math.nan
    test_loss: float = math.nan


class Protocol:
    """A run's number, the layouts of parameters and buffers, the codecs of both directions, and the neurons' framing.

    run: 64 bits that follow from the configuration. number: the upper half, which messages bear. asked, brought: what
    orders of this run may ask for, and which sections they may have; a client does and tells nothing else.
    Sections of an order: `do`; `seed`, `weights` or `changes` (and `buffers`, `version`); `control` (SCAFFOLD's c);
    `permutation`.
    Sections of a reply: `report`; `update`, `weights`, or `seed` and `update` (and `buffers`); `control` (the change of
    c_i); `signatures`; `sketch`; `statistics`.
    """

    def __init__(self, config: RunConfig, task: Task, model: nn.Module) -> None:
        self._task = task
        self.run = int(config.identity(), 16)
        self.number = self.run >> 32
        self.parameters = Layout.of(parameters_of(model))
        self.buffers = Layout.of(buffers_of(model))
        foreign = [e for e in self.parameters.entries if str(e.dtype) != "torch.float32"]
        if foreign or not len(self.parameters):
            what = f"{foreign[0].name} is {foreign[0].dtype}" if foreign else "it has no parameters"
            raise ValueError(f"task.model={config.task.model.kind!r}: {what}; every parameter must be float32")
        foreign = [e for e in self.buffers.entries if e.dtype.is_complex]
        if foreign:
            raise ValueError(f"task.model={config.task.model.kind!r}: buffer {foreign[0].name} is {foreign[0].dtype}")
        self.exact: FixedLengthCodec = Exact(self.buffers)
        self.fresh: FixedLengthCodec = Fp32(self.parameters)
        coded = 0
        self.relays = config.method.downlink == RELAY
        self.combine = config.method.combine
        if config.method.federated:
            self.uplink = self._coding_of_replies(config.method)
            self.downlink = self.fresh if self.relays else make_codec(config.method.downlink, self.parameters)
            if config.method.opening is not None:
                first = config.method.opening
                self.uplink = WarmupSchedule(first.rounds, make_codec(first.uplink, self.parameters), self.uplink)
                if first.downlink is not None:
                    self.downlink = WarmupSchedule(
                        first.rounds, make_codec(first.downlink, self.parameters), self.downlink
                    )
            self.models = make_fixed_length_codec(config.method.whole, self.parameters)
            coded = self.uplink.most_bytes + self.downlink.most_bytes
        whole = not config.method.federated or config.method.personal or isinstance(self.downlink, FixedLengthCodec)
        self.tells_changes = self.relays or not whole
        self.seeded = config.method.models == "seeded"
        self.own_masks = OwnMasks(task) if config.method.models == "masked" else None
        self.controlled = isinstance(config.method.objective, ControlVariates)
        self.asked = _asked(config.method)
        self.brought = frozenset(_brought(config.method, self.tells_changes))
        self.rounds, self.clients = config.federation.rounds, len(task.parts)
        self.framing = Framing(config, task, model)
        coded += self.own_masks.most_bytes if self.own_masks is not None else 0
        said = 8 * self.parameters.numel + self.exact.coded_bytes + coded
        self.limit = 2 * said + _SLACK + self.framing.most_bytes

    def _coding_of_replies(self, method: Method) -> Codec:
        if not isinstance(method.parametrization, BackboneMask):
            return make_codec(method.uplink, self.parameters)
        scores, beside = partial(make_codec, method.uplink), partial(make_fixed_length_codec, method.whole)
        return SplitCodec(self.parameters, is_score, scores, beside)

    def part(self, round: int) -> Tensors | None:
        """Which values the replies of a round can say, as booleans, the same for all clients; None for any value."""
        return self.uplink.sent_mask(CodingContext(self.run, round, 0))

    def initial(self, seed: int) -> tuple[Tensors, Tensors]:
        """Return the weights and buffers that a model begins with."""
        model = self._task.build_model(seed)
        return clone(parameters_of(model)), clone(buffers_of(model))

    def write(self, round: int, sender: int, sections: list[Section]) -> bytes:
        """Return a message of this run."""
        return encode_message(self.number, round, sender, sections)

    def read(self, data: bytes, sender: int) -> Message:
        """Return the message in `data`; `WireError` when it is damaged, too long, of another run, sender, no round."""
        message = decode_message(data, self.limit)
        if message.run != self.number:
            raise WireError(f"the message is of run {message.run:08x}, not of {self.number:08x}")
        if message.sender != sender:
            raise WireError(f"the message is from {message.sender}, not from {sender}")
        if not 1 <= message.round <= self.rounds:
            raise WireError(f"the message is of round {message.round}; the run has rounds 1 to {self.rounds}")
        return message


def _asked(method: Method) -> Do:
    if not method.federated:
        return Do.TRAIN | Do.KEEP_MODEL | Do.SCORE
    asked = Do.TRAIN | Do.SEND_UPDATE
    if method.scored_by_clients:
        asked |= Do.SCORE
    if method.start == "local":
        asked |= Do.SEND_MODEL | Do.KEEP_MODEL
    if method.frame == "signatures":
        asked |= Do.SEND_SIGNATURES
    if method.sketched:
        asked |= Do.SEND_SKETCH
    if method.repair_targets == "clients":
        asked |= Do.SEND_STATISTICS
    return asked


def _brought(method: Method, tells_changes: bool) -> Iterator[str]:
    yield "do"
    if not method.federated:
        return
    yield from ("weights", "buffers")
    if method.start == "shared-seed" or method.models == "seeded":
        yield "seed"
    if tells_changes:
        yield from ("changes", "version")
    if isinstance(method.objective, ControlVariates):
        yield "control"
    if method.aligned:
        yield "permutation"


def write_do(do: Do) -> Section:
    return Section(Kind.CONTROL, "do", _DO.pack(do))


def read_do(message: Message, allowed: Do) -> Do:
    """Return what an order asks for; `WireError` for nothing, or for what no order of this run asks."""
    asked = Do(_unpack(_DO, message, "do")[0])
    if not asked:
        raise WireError("the order asks for nothing")
    if asked & ~allowed:
        raise WireError(f"the order asks for {asked & ~allowed!r}, which this method has no use for")
    return asked


def write_seed(seed: int) -> Section:
    return Section(Kind.INIT, "seed", _SEED.pack(seed))


def read_seed(message: Message) -> int:
    """Return the seed; `WireError` when there is none, or it is none that a generator takes."""
    seed: int = _unpack(_SEED, message, "seed")[0]
    if seed >> 63:
        raise WireError(f"a seed is {seed}; it has 63 bits")
    return seed


def write_report(report: Report) -> Section:
    body = write_number(report.examples) + write_number(report.steps) + _LOSS.pack(report.loss)
    if not math.isnan(report.accuracy):
        body += _SCORE.pack(report.accuracy, report.test_loss)
    return Section(Kind.CONTROL, "report", body)


def read_report(message: Message) -> Report:
    body = message.require("report")
    examples, at = read_number(body, 0)
    steps, at = read_number(body, at)
    if len(body) - at not in (_LOSS.size, _LOSS.size + _SCORE.size):
        raise WireError(f"section 'report' has {len(body)} bytes, which is too many or too few")
    scored = len(body) > at + _LOSS.size
    score = _SCORE.unpack_from(body, at + _LOSS.size) if scored else (math.nan, math.nan)
    report = Report(examples, steps, *_LOSS.unpack_from(body, at), *score)
    if math.isinf(report.loss) or math.isinf(report.accuracy) or math.isinf(report.test_loss):
        raise WireError(f"the report has an infinite number: {report}")
    return report


def _unpack(form: struct.Struct, message: Message, name: str) -> tuple[Any, ...]:
    body = message.require(name)
    if len(body) != form.size:
        raise WireError(f"section {name!r} has {len(body)} bytes, not {form.size}")
    return form.unpack(body)
