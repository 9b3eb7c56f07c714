"""A client's own model as a mask over its own random weights: a seed and at most a bit a weight say all of it.

Masks over different weights cannot be averaged; the networks that they describe can be aligned and merged like any. So
a client trains a mask until it meets the others, and sends it; from then on all train the merged weights themselves.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from onebasin.codecs.chain import Chain
from onebasin.codecs.context import CodingContext
from onebasin.core.layout import Layout, Tensors
from onebasin.learning.parametrizations.parametrize import fold
from onebasin.learning.parametrizations.supermask import SCORES
from onebasin.learning.task import Task
from onebasin.methods.settings import Supermask
from onebasin.networks.weights import clone, copy_into, parameters_of


class OwnMasks:
    """Both sides' knowledge of such models. `ValueError` where the task's model cannot be masked."""

    def __init__(self, task: Task) -> None:
        self._names = list(parameters_of(task.build_model(task.seed)))
        self._task = replace(task, parametrization=Supermask())
        self._coding = Chain("threshold", Layout.of(parameters_of(self.model(task.seed))))

    def model(self, seed: int) -> nn.Module:
        """Return the model that is trained: scores over the weights of a seed."""
        return self._task.build_model(seed)

    def weights(self, model: nn.Module, scores: Tensors) -> Tensors:
        """Return all weights that scores stand for, in a plain module's names and order; the model is used up."""
        copy_into(parameters_of(model), scores)
        folded = dict(fold(model).named_parameters())
        return clone({name: folded[name] for name in self._names})

    def write(self, weights: Tensors) -> bytes:
        """Return which of the weights are kept; none that is, is 0."""
        kept = {
            name: (weights[name.removesuffix(SCORES) + "weight"] != 0).float() for name in self._coding.layout.names
        }
        return self._coding.body(kept, CodingContext())

    def read(self, seed: int, body: bytes) -> Tensors:
        """Return the weights that a seed and a body of `write` describe; `WireError` when it is none."""
        kept = self._coding.receive(body, CodingContext())
        return self.weights(self.model(seed), {name: flags - 0.5 for name, flags in kept.items()})

    @property
    def most_bytes(self) -> int:
        return self._coding.most_bytes
