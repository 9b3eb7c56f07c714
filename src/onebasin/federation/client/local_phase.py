"""The second step of a client: the local phase, training and scoring on the client's data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from onebasin.core.layout import Tensors
from onebasin.core.references import outside_sources, resolve
from onebasin.core.seeds import derive
from onebasin.federation.client.starting_point import own_seed
from onebasin.federation.client.work import Done, Work
from onebasin.federation.messages import Report, Request
from onebasin.federation.protocol import Protocol
from onebasin.learning.local_training import Trained
from onebasin.learning.metrics import Score, evaluate, evaluate_by_class
from onebasin.learning.reuse import train_or_reuse
from onebasin.networks.weights import buffers_of, clone, copy_into, parameters_of, transient_buffers_of
from onebasin.wire.message import Kind, Section

if TYPE_CHECKING:
    from onebasin.federation.run_config import RunConfig
    from onebasin.learning.task import Task

STATISTICS_EXAMPLES = 500
"""The number of examples on which a client measures its neurons' statistics, at most."""


class LocalPhase:
    """Runs the local phases of all clients, one after the other, in one workspace."""

    def __init__(self, config: RunConfig, task: Task, protocol: Protocol, model: nn.Module) -> None:
        self._config, self._task, self._protocol, self._model = config, task, protocol, model
        self._initial_transient_buffers = clone(transient_buffers_of(model))
        chosen = config.method.parametrization
        parametrization = "" if chosen.kind == "dense" else chosen.model_dump_json()
        factories = [resolve(name) for name in (config.task.dataset, config.task.model.kind) if ":" in name]
        code = outside_sources([type(chosen), *factories]) or ""
        self._identity = f"{config.task.model_dump_json()} {config.method.data} {config.seed}{parametrization}{code}"

    def run(self, work: Work) -> Done:
        """Train on the client's examples and score the result, each only if the request asks for it.

        Raises TrainingFailed if there are no examples, or if the loss is not finite.
        """
        copy_into(transient_buffers_of(self._model), self._initial_transient_buffers)
        indices = self._task.examples(work.client, own_model=work.own)
        trained = Trained(work.start.weights, work.start.buffers, work.start.optimizer, 0, float("nan"))
        if Request.TRAIN in work.request:
            trained = self._train(work, indices)
        report = Report(len(indices), trained.steps, trained.loss)
        if Request.SCORE in work.request:
            score = self._score(work.client, trained)
            if score is not None:
                report = replace(report, accuracy=score.accuracy, test_loss=score.loss)
        return Done(work, trained, report, tuple(self._sections(work.request, trained, indices)))

    def _train(self, work: Work, indices: Tensor) -> Trained:
        recipe = self._config.training
        if work.own:
            recipe = recipe.warmup_recipe
        model, start = self._model, work.start
        masks = self._protocol.seed_and_mask if work.own else None
        if masks is not None:
            model = masks.model(own_seed(self._config, work.client))
            start = replace(start, weights=clone(parameters_of(model)), buffers=clone(buffers_of(model)), optimizer={})
        trained = train_or_reuse(
            f"{self._identity} {work.client}",
            model,
            start,
            self._task.dataset.train,
            indices,
            recipe,
            work.round,
            derive(self._config.seed, "train", work.round, work.client),
        )
        if masks is not None:
            trained = replace(trained, weights=masks.weights(model, trained.weights), optimizer={})
        if recipe.optimizer != self._config.training.optimizer:
            trained = replace(trained, optimizer={})  # the next phase's optimiser cannot use another's state
        for hook in self._protocol.hooks:
            trained = hook.after_training(work.client, work.round, work.start, trained)
        return trained

    def _score(self, client: int, trained: Trained) -> Score | None:
        """Return the score on the test set, or, for personal scores, on the client's label distribution."""
        copy_into(parameters_of(self._model), trained.weights)
        copy_into(buffers_of(self._model), trained.buffers)
        test = self._task.dataset.test
        if self._config.method.score not in ("personal", "fine-tuned"):
            return evaluate(self._model, test)
        return evaluate_by_class(self._model, test, self._task.dataset.classes).on(self._task.labels(client))

    def _sections(self, request: Request, trained: Trained, indices: torch.Tensor) -> Iterator[Section]:
        """Yield the sections that alignment needs beside the model: signatures, sketch, statistics."""
        data = self._task.dataset.train
        state: Tensors = trained.weights | trained.buffers
        if Request.SEND_SIGNATURES in request:
            yield Section(Kind.ALIGN, "signatures", self._protocol.neurons.write_signatures(state))
        if Request.SEND_SKETCH in request:
            sketch = self._protocol.neurons.write_sketch(data.inputs[indices], data.targets[indices])
            yield Section(Kind.ALIGN, "sketch", sketch)
        if Request.SEND_STATISTICS in request:
            inputs = data.inputs[indices[:STATISTICS_EXAMPLES]]
            yield Section(Kind.ALIGN, "statistics", self._protocol.neurons.write_statistics(state, inputs))
