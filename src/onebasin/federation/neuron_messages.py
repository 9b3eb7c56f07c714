"""Sections about neurons and inputs: the encoding of neuron orders, signatures, sketches and statistics."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import torch
from torch import Tensor, nn

from onebasin.alignment import probes
from onebasin.alignment.models import AlignmentError
from onebasin.alignment.repair import Statistics, statistics, statistics_spec
from onebasin.alignment.responses import Responses
from onebasin.alignment.signatures import coded_bytes, decode_signatures, encode_signatures
from onebasin.alignment.sketches import Sketch, SketchForm, draw, sketch
from onebasin.codecs.dense import Fp32
from onebasin.core.layout import Layout, Tensors
from onebasin.core.seeds import derive
from onebasin.core.settings import ConfigError
from onebasin.core.state import State
from onebasin.federation.run_config import RunConfig
from onebasin.learning.task import Task
from onebasin.methods.method import Method
from onebasin.symmetry.find import find_permutations
from onebasin.symmetry.spec import Perms, PermutationSpec
from onebasin.wire.error import WireError
from onebasin.wire.permutations import decode_permutations, encode_permutations

MARK_BYTES = 4
"""Length of the digest by which a body shows that it is of this model's groups and settings."""

_NUMBER = struct.Struct("<I")


@dataclass(frozen=True)
class NewOrder:
    """A neuron order that a client must take.

    number: the round in which it was found. perms: the permutations to it, by group.
    """

    number: int
    perms: Perms


class NeuronMessages:
    """Encodes and decodes what clients and server send about neurons and inputs.

    Both sides compute permutation groups, probe inputs and the settings of sketches (`form`) from the configuration
    alone, when they first need them.
    """

    def __init__(self, config: RunConfig, task: Task, model: nn.Module) -> None:
        self._method: Method = config.method
        self._task, self._model = task, model
        self._seed = derive(config.seed, "probes")

    def require_probes(self) -> None:
        """Raise ConfigError if the method's probe inputs cannot be made for the task's data."""
        dataset = self._task.dataset
        is_text = dataset.sequence and not dataset.train.inputs.is_floating_point()
        if self._method.probes.kind == "generated" and not is_text:
            raise ConfigError(
                f"method.probes='generated' is text that language models write; {dataset.name} has none: use "
                "'sketch' or 'noise'"
            )

    @cached_property
    def spec(self) -> PermutationSpec:
        """The permutation groups of the model. Raises ConfigError if it has none.

        They are found on a model with initial weights: training may have left NaN in the weights of `self._model`.
        """
        spec = find_permutations(self._task.workspace(), self.synthetic(2))
        if not spec.groups:
            needs = f"method.frame={self._method.frame!r}" if self._method.aligned else "method.combine.balance"
            raise ConfigError(f"{needs}: the model has no neurons to permute:\n{spec}")
        return spec

    @cached_property
    def responses(self) -> Responses:
        """The responses of neurons to probe inputs, which signatures and activations consist of."""
        alignment = self._method.alignment
        inputs = self.synthetic(alignment.features) if alignment.probes == "noise" else self._public(alignment.features)
        return Responses(self.spec, self._model, inputs, alignment.features, self._seed)

    @cached_property
    def form(self) -> SketchForm:
        """The settings of the clients' sketches. Raises ConfigError if their inputs are not real numbers."""
        inputs = self._task.dataset.train.inputs
        if not inputs.is_floating_point():
            raise ConfigError(
                "method.probes='sketch' and targets='experts' describe real inputs, and this data's are tokens; "
                "use method.probes='generated' or 'noise', and method.combine.targets='mean'"
            )
        chosen = self._method.probes
        return SketchForm(tuple(inputs.shape[1:]), self._task.dataset.classes, chosen.rank, chosen.shrink)

    @property
    def most_bytes(self) -> int:
        """The size of signatures and sketch in a reply, as far as the method uses them."""
        sends_signatures = self._method.frame == "signatures"
        signatures = coded_bytes(self.responses.spec, self._method.alignment.bits) if sends_signatures else 0
        return signatures + (self.form.coded_bytes if self._method.sketched else 0)

    def synthetic(self, count: int) -> Tensor:
        """Return `count` inputs [count, ...] that follow from the run's seed and the shape of its data."""
        inputs = self._task.dataset.train.inputs
        if inputs.is_floating_point():
            return probes.noise(tuple(inputs.shape[1:]), count, self._seed)
        return probes.tokens(inputs.shape[1], self._task.dataset.classes, count, self._seed)

    def probes(self, sketches: Mapping[int, Sketch], states: Sequence[Tensors]) -> Tensor:
        """Return the probe inputs [n, ...] on which the server runs models.

        sketches: by client, as far as the server has them; used if `method.probes` is `sketch`.
        states: the models that will be merged; used if it is `generated`.
        """
        chosen = self._method.probes
        if chosen.kind == "generated":
            length = self._task.dataset.train.inputs.shape[1]
            model = self._task.workspace()
            return probes.continued(model, states, length, self._task.dataset.classes, chosen.count, self._seed)
        if chosen.kind == "noise":
            return self.synthetic(chosen.count)
        if chosen.kind == "public":
            return self._public(chosen.count)
        return draw([sketches[client] for client in sorted(sketches)], chosen.count, self._seed)

    def _public(self, count: int) -> Tensor:
        assert self._task.public is not None
        return self._task.public[:count]

    def write_permutations(self, order: NewOrder) -> bytes:
        """Encode a neuron order: its number, then its permutations, group by group.

        A group of n neurons has a permutation [n]; a group inside another (neurons in heads) has one for each index of
        the outer group, [heads, n].
        """
        rows = [
            row
            for group in self.spec.groups
            for row in order.perms[group].reshape(-1, order.perms[group].shape[-1]).tolist()
        ]
        return self._mark("permutations", self.spec) + _NUMBER.pack(order.number) + encode_permutations(rows)

    def read_permutations(self, body: bytes) -> NewOrder:
        """Decode a neuron order. Raises WireError if it is malformed, or not of this model's groups."""
        rest = self._without_mark("permutations", self.spec, body)
        if len(rest) < _NUMBER.size:
            raise WireError("the permutations have no number")
        shapes = {group: self.spec.shape(group) for group in self.spec.groups}
        sizes = [shape[-1] for shape in shapes.values() for _ in range(math.prod(shape[:-1]))]
        rows = iter(decode_permutations(rest[_NUMBER.size :], sizes))
        perms = {
            group: torch.tensor([next(rows) for _ in range(math.prod(shape[:-1]))]).reshape(shape)
            for group, shape in shapes.items()
        }
        return NewOrder(_NUMBER.unpack_from(rest)[0], perms)

    def write_signatures(self, state: Tensors) -> bytes:
        """Encode the signatures of a model's neurons: their responses to probe inputs, in a few bits each."""
        responses = self.responses
        return self._mark("signatures", responses.spec) + encode_signatures(
            responses.of(state), self._method.alignment.bits
        )

    def read_signatures(self, body: bytes) -> Tensors:
        """Decode signatures to responses. Raises WireError if they are malformed, or not of this model."""
        spec = self.responses.spec
        try:
            return decode_signatures(self._without_mark("signatures", spec, body), spec, self._method.alignment.bits)
        except AlignmentError as error:
            raise WireError(str(error)) from None

    def write_sketch(self, inputs: Tensor, targets: Tensor) -> bytes:
        """Encode the sketch of a client's examples. inputs: [n, ...]. targets: [n, ...]."""
        return sketch(inputs, targets, self.form).to_bytes()

    def read_sketch(self, body: bytes) -> Sketch:
        """Decode a sketch. Raises WireError if it is malformed, or not of this task's data."""
        try:
            return Sketch.from_bytes(self.form, body)
        except AlignmentError as error:
            raise WireError(str(error)) from None

    def write_statistics(self, state: Tensors, inputs: Tensor) -> bytes:
        """Encode the statistics of a model: mean and standard deviation of each hidden neuron on a client's inputs."""
        return self._statistics_codec.encode(statistics(self._model, state, inputs))

    def read_statistics(self, body: bytes) -> Statistics:
        """Decode statistics, [2, neurons] by layer. Raises WireError if they are malformed, or not of this model."""
        decoded = self._statistics_codec.decode(body)
        if any(bool((layer[1] < 0).any()) for layer in decoded.values()):
            raise WireError("a standard deviation is negative")
        return decoded

    @cached_property
    def statistics_spec(self) -> PermutationSpec:
        """How permutations of the model's groups act on its statistics."""
        return statistics_spec(self.spec, self._model, self.synthetic(2))

    @cached_property
    def _statistics_codec(self) -> Fp32:
        return Fp32(Layout.of(statistics(self._model, dict(self._model.state_dict()), self.synthetic(2))))

    def permuted(self, state: State, perms: Perms) -> State:
        """Return a client's state in another neuron order: weights, buffers, momenta and residuals are permuted.

        The keys of a slot are names of parameters, or `parameter:quantity` (a momentum of the optimiser).
        The global model that the client keeps (slot `held`) is in the common order already.
        """
        slots = {
            slot: tensors
            if slot == "held"
            else {
                key: self.spec.apply({name: tensor}, perms)[name]
                if (name := key.partition(":")[0]) in self.spec.tensors and tensor.shape == self._shape(name)
                else tensor
                for key, tensor in tensors.items()
            }
            for slot, tensors in state.slots.items()
        }
        return State(slots, dict(state.facts))

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.spec.tensors[name].shape

    def _mark(self, what: str, spec: PermutationSpec) -> bytes:
        """Return a digest of the groups and, for signatures, of the settings, 4 bytes."""
        shapes = [f"{group} {list(spec.shape(group))}" for group in spec.groups]
        lines = [what, *shapes]
        if what == "signatures":
            lines += [f"{name} {list(entry.shape)}" for name, entry in spec.tensors.items()]
            lines.append(str(self._method.alignment.bits))
        return blake2b("\n".join(lines).encode(), digest_size=MARK_BYTES).digest()

    def _without_mark(self, what: str, spec: PermutationSpec, body: bytes) -> bytes:
        """Return the body after its mark. Raises WireError if the mark is of another model or of other settings."""
        if body[:MARK_BYTES] != self._mark(what, spec):
            raise WireError(f"the {what} are not of this model's {len(spec.groups)} groups of neurons")
        return body[MARK_BYTES:]
