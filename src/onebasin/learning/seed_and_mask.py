"""Seed-and-mask models: a client sends its first model as the seed of random weights and a mask over them.

That is 8 bytes and at most 1 bit per weight. Masks over different weights cannot be averaged, but the networks that
they describe can be aligned and merged. So each client trains and sends a mask until its model is merged into the
global model; afterwards all clients train the merged weights themselves.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from onebasin.codecs.chain import Chain
from onebasin.codecs.context import CodingContext
from onebasin.core.layout import Layout, Tensors
from onebasin.learning.masks.layers import SCORES
from onebasin.learning.parametrization import fold
from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.learning.task import Task
from onebasin.networks.weights import clone, copy_into, parameters_of


class SeedAndMask:
    """Encodes and decodes the seed-and-mask models of a task. Raises ValueError if the model cannot be masked."""

    def __init__(self, task: Task) -> None:
        self._names = list(parameters_of(task.build_model(task.seed)))
        self._task = replace(task, parametrization=Supermask())
        self._codec = Chain("threshold", Layout.of(parameters_of(self.model(task.seed))))

    def model(self, seed: int) -> nn.Module:
        """Return the model that a client trains: scores over the random weights of a seed."""
        return self._task.build_model(seed)

    def weights(self, model: nn.Module, scores: Tensors) -> Tensors:
        """Return the masked weights that scores describe, in the names and the order of the original model.

        model: a result of the method `model`; its parametrizations are removed.
        """
        copy_into(parameters_of(model), scores)
        folded = dict(fold(model).named_parameters())
        return clone({name: folded[name] for name in self._names})

    def encode(self, weights: Tensors) -> bytes:
        """Encode which of the masked weights are kept, that is, are not 0."""
        mask = {name: (weights[name.removesuffix(SCORES) + "weight"] != 0).float() for name in self._codec.layout.names}
        return self._codec.body(mask, CodingContext())

    def decode(self, body: bytes) -> Tensors:
        """Decode a mask: 0 or 1 for each weight, by the names of the scores. Raises WireError if it is malformed."""
        return self._codec.receive(body, CodingContext())

    def weights_of(self, seed: int, mask: Tensors) -> Tensors:
        """Return the masked weights that a seed and a decoded mask describe."""
        return self.weights(self.model(seed), {name: kept - 0.5 for name, kept in mask.items()})

    @property
    def most_bytes(self) -> int:
        """An upper bound on the size of an encoded mask."""
        return self._codec.most_bytes
