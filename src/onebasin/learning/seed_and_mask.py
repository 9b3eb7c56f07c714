"""Seed-and-mask models: a client's own model as a mask over its own random weights, a seed and at most 1 bit a weight.

Masks over different weights cannot be averaged; the networks that they describe can be aligned and merged like others.
So a client trains a mask until its model joins the global one, and sends it; afterwards all clients train the merged
weights themselves.
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
    """Encodes and decodes seed-and-mask models of a task. `ValueError` where the task's model cannot be masked."""

    def __init__(self, task: Task) -> None:
        self._names = list(parameters_of(task.build_model(task.seed)))
        self._task = replace(task, parametrization=Supermask())
        self._codec = Chain("threshold", Layout.of(parameters_of(self.model(task.seed))))

    def model(self, seed: int) -> nn.Module:
        """Return the model that is trained: scores over the weights of a seed."""
        return self._task.build_model(seed)

    def weights(self, model: nn.Module, scores: Tensors) -> Tensors:
        """Return all weights that scores stand for, in a plain module's names and order; the model is used up."""
        copy_into(parameters_of(model), scores)
        folded = dict(fold(model).named_parameters())
        return clone({name: folded[name] for name in self._names})

    def encode(self, weights: Tensors) -> bytes:
        """Return which of the weights are kept; none that is, is 0."""
        kept = {name: (weights[name.removesuffix(SCORES) + "weight"] != 0).float() for name in self._codec.layout.names}
        return self._codec.body(kept, CodingContext())

    def decode(self, body: bytes) -> Tensors:
        """Return which weights are kept, 0 or 1 by score; `WireError` for a body that is none of `encode`'s."""
        return self._codec.receive(body, CodingContext())

    def weights_of(self, seed: int, kept: Tensors) -> Tensors:
        """Return the weights that a seed and the result of `decode` describe."""
        return self.weights(self.model(seed), {name: flags - 0.5 for name, flags in kept.items()})

    @property
    def most_bytes(self) -> int:
        """Return more bytes than any body takes."""
        return self._codec.most_bytes
