"""The protocol: what server and clients know before the first message, and how they read and write messages."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING

from torch import nn

from onebasin.codecs.codec import Codec, FixedLengthCodec
from onebasin.codecs.context import CodingContext
from onebasin.codecs.dense import Exact, Fp32
from onebasin.codecs.named_codecs import make_codec, make_fixed_length_codec
from onebasin.codecs.split_codec import SplitCodec
from onebasin.codecs.warmup_schedule import WarmupSchedule
from onebasin.core.layout import Layout, Tensors
from onebasin.federation.hooks.hook import HookContext, hooks_of
from onebasin.federation.messages import SectionTable
from onebasin.networks.weights import buffers_of, clone, parameters_of
from onebasin.wire.error import WireError
from onebasin.wire.message import Message, Section, decode_message, encode_message

if TYPE_CHECKING:
    from onebasin.federation.neuron_messages import NeuronMessages
    from onebasin.federation.run_config import RunConfig
    from onebasin.learning.seed_and_mask import SeedAndMask
    from onebasin.learning.task import Task
    from onebasin.methods.method import Method

_SLACK = 4096


def _seed_and_mask(task: Task) -> SeedAndMask:
    from onebasin.learning.seed_and_mask import SeedAndMask  # for methods that send such models

    return SeedAndMask(task)


class Protocol:
    """What server and clients derive alike from the configuration: layouts, codecs, sections and hooks.

    run: 64 bits that identify the run, from its configuration.
    number: the upper 32 bits of `run`, which every message has.
    parameters, buffers: their layouts.
    exact: lossless codec of buffers, in the types that they have.
    fp32: lossless codec of parameters, which are all float32.
    uplink: codec of updates.
    downlink: codec of the global model, or of its deltas.
    whole_models: codec of clients' own models by their values.
    seed_and_mask: codec of clients' own models by a seed and a mask; None if they are sent otherwise.
    sends_seeds: clients' own models are sent as a seed and a delta.
    sends_deltas: requests encode the global model as deltas, or as forwarded updates.
    forwards_updates: requests have the encoded updates of all clients.
    rule: the aggregation rule.
    rounds, clients: their numbers.
    hooks: what the method's choices add to a round.
    sections: the table of sections.
    limit: no message of the run has more bytes.
    """

    def __init__(self, config: RunConfig, task: Task, model: nn.Module) -> None:
        """Derive the protocol. model: of the task. Raises ValueError for a model that the codecs cannot encode."""
        method = config.method
        self.config, self._task, self._model = config, task, model
        self.run = int(config.identity(), 16)
        self.number = self.run >> 32
        self.parameters = Layout.of(parameters_of(model))
        self.buffers = Layout.of(buffers_of(model))
        self._check_types(config.task.model.kind)
        self.exact: FixedLengthCodec = Exact(self.buffers)
        self.fp32: FixedLengthCodec = Fp32(self.parameters)
        self.forwards_updates = method.forwards_updates
        self.rule = method.combine
        self.sends_seeds = method.models == "seeded"
        self.seed_and_mask = _seed_and_mask(task) if method.models == "masked" else None
        if method.federated:
            self.uplink, self.downlink = self._uplink(method), self._downlink(method)
            self.whole_models = make_fixed_length_codec(method.dense_codec, self.parameters)
        # With personal models, each client keeps its own: there are no versions of a global one.
        dense = not method.federated or method.personal or isinstance(self.downlink, FixedLengthCodec)
        self.sends_deltas = self.forwards_updates or not dense
        self.rounds, self.clients = config.federation.rounds, len(task.parts)
        self.hooks = hooks_of(HookContext(config, self, self.clients))
        self.sections = SectionTable.of(method, len(self.buffers) > 0, self.sends_deltas, self.hooks)
        self.limit = self._most_bytes(method)

    @cached_property
    def neurons(self) -> NeuronMessages:
        """The encoding of neuron orders, signatures, sketches and statistics; loaded only if a method needs it."""
        from onebasin.federation.neuron_messages import NeuronMessages

        return NeuronMessages(self.config, self._task, self._model)

    def sent_mask(self, round: int) -> Tensors | None:
        """Return which values the updates of a round contain, if all clients know that beforehand.

        Booleans by parameter, the same for all clients; None if an update may contain any value.
        """
        return self.uplink.sent_mask(CodingContext(self.run, round, 0))

    def initial_model(self, seed: int) -> tuple[Tensors, Tensors]:
        """Return the initial weights and buffers of the model of a seed."""
        model = self._task.build_model(seed)
        return clone(parameters_of(model)), clone(buffers_of(model))

    def write(self, round: int, sender: int, sections: list[Section]) -> bytes:
        """Encode a message of this run."""
        return encode_message(self.number, round, sender, sections)

    def read(self, data: bytes, sender: int) -> Message:
        """Decode a message of this run from a sender.

        Raises WireError if it is damaged, too long, of another run or sender, or of a round that the run has not.
        """
        message = decode_message(data, self.limit)
        if message.run != self.number:
            raise WireError(f"the message is of run {message.run:08x}, not of {self.number:08x}")
        if message.sender != sender:
            raise WireError(f"the message is from {message.sender}, not from {sender}")
        if not 1 <= message.round <= self.rounds:
            raise WireError(f"the message is of round {message.round}; the run has rounds 1 to {self.rounds}")
        return message

    def _check_types(self, model_name: str) -> None:
        """Raise ValueError for parameters or buffers of types that no codec encodes."""
        foreign = [e for e in self.parameters.entries if str(e.dtype) != "torch.float32"]
        if foreign or not len(self.parameters):
            what = f"{foreign[0].name} is {foreign[0].dtype}" if foreign else "it has no parameters"
            raise ValueError(f"task.model={model_name!r}: {what}; every parameter must be float32")
        foreign = [e for e in self.buffers.entries if e.dtype.is_complex]
        if foreign:
            raise ValueError(f"task.model={model_name!r}: buffer {foreign[0].name} is {foreign[0].dtype}")

    def _uplink(self, method: Method) -> Codec:
        codec: Codec
        if method.parametrization.splits_scores:
            from onebasin.learning.masks.layers import is_score  # for methods with two codecs: scores, weights

            scores, beside = partial(make_codec, method.uplink), partial(make_fixed_length_codec, method.dense_codec)
            codec = SplitCodec(self.parameters, is_score, scores, beside)
        else:
            codec = make_codec(method.uplink, self.parameters)
        first = method.opening
        return (
            codec if first is None else WarmupSchedule(first.rounds, make_codec(first.uplink, self.parameters), codec)
        )

    def _downlink(self, method: Method) -> Codec:
        codec = self.fp32 if self.forwards_updates else make_codec(method.downlink, self.parameters)
        first = method.opening
        if first is None or first.downlink is None:
            return codec
        return WarmupSchedule(first.rounds, make_codec(first.downlink, self.parameters), codec)

    def _most_bytes(self, method: Method) -> int:
        """Return an upper bound on the size of a message.

        It is generous: 8 bytes for each parameter (two tensors in fp32) beside everything that codecs encode, twice.
        """
        coded = self.uplink.most_bytes + self.downlink.most_bytes if method.federated else 0
        coded += self.seed_and_mask.most_bytes if self.seed_and_mask is not None else 0
        neurons = self.neurons.most_bytes if method.frame == "signatures" or method.sketched else 0
        return 2 * (8 * self.parameters.numel + self.exact.coded_bytes + coded) + _SLACK + neurons
