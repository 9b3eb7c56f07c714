"""The local loop: some epochs or steps of an optimiser over one client's examples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from onebasin.core.layout import Tensors
from onebasin.core.seeds import derive, generator
from onebasin.core.settings import Count, Fraction, Positive, Settings
from onebasin.learning.data.examples import Split
from onebasin.learning.metrics import loss_of
from onebasin.learning.objective import Batch, LocalPhase, Objective
from onebasin.learning.objectives.plain import Plain
from onebasin.learning.optimizers import OPTIMIZERS, OptimizerName, build_optimizer
from onebasin.networks.weights import buffers_of, clone, copy_into, parameters_of

if TYPE_CHECKING:
    from onebasin.learning.masks.masked_update import MaskedUpdate


class Training(Settings):
    """Local optimisation: what a client does in one round. `steps`, where given, replaces `epochs`.

    optimizer: `sgd`, `adam`, `adamw`, or ``package.module:Name`` such as ``torch.optim:RMSprop``; optimizer_options:
    its other arguments. lr_decay multiplies the rate after every round. keep_optimizer: the optimiser's state stays
    with the client between rounds. warmup: epochs of the phase that a client starts from its own weights, where they
    differ from `epochs`; warmup_optimizer (without momentum) and warmup_lr: likewise.
    """

    optimizer: OptimizerName = "sgd"
    optimizer_options: dict[str, Any] = Field(default={})
    lr: Positive = 0.05
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    momentum: Fraction = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    batch: Count = 32
    epochs: Count = 1
    steps: Count | None = None
    warmup: Count | None = None
    warmup_optimizer: OptimizerName | None = None
    warmup_lr: Positive | None = None
    clip: Positive | None = None
    keep_optimizer: bool = False

    @model_validator(mode="after")
    def _optimizers_can_be_made(self) -> Training:
        """Raise `ValueError` for options that an optimiser refuses, which else would fail in every client's phase."""
        outside = [recipe for recipe in (self, self.warmup_recipe) if recipe.optimizer not in OPTIMIZERS]
        for recipe in [*outside, *([self] if self.optimizer_options else [])]:
            try:
                recipe.build_optimizer([nn.Parameter(torch.zeros(1, 1))], round=1)
            except Exception as error:  # an optimiser from outside may raise anything
                raise ValueError(
                    f"optimizer={recipe.optimizer!r} does not take optimizer_options={recipe.optimizer_options} "
                    f"beside lr, momentum and weight_decay: {type(error).__name__}: {error}"
                ) from None
        return self

    def build_optimizer(self, parameters: Iterable[nn.Parameter], round: int) -> torch.optim.Optimizer:
        """Return the optimiser over the parameters, its rate decayed to a round (from 1)."""
        options = (self.momentum, self.weight_decay, self.optimizer_options)
        return build_optimizer(self.optimizer, parameters, self.rate(round), *options)

    @property
    def warmup_recipe(self) -> Training:
        """Return the recipe of the phase that a client starts from its own weights."""
        changes: dict[str, Any] = {}
        if self.warmup is not None:
            changes |= {"epochs": self.warmup, "steps": None}
        if self.warmup_optimizer is not None:
            changes |= {"optimizer": self.warmup_optimizer, "momentum": 0.0, "optimizer_options": {}}
        if self.warmup_lr is not None:
            changes["lr"] = self.warmup_lr
        return self.model_copy(update=changes)

    def rate(self, round: int) -> float:
        """Return the learning rate of a round, which counts from 1."""
        return self.lr * self.lr_decay ** (round - 1)


class TrainingFailed(RuntimeError):
    """A client's training that cannot go on: no examples, or a loss that is NaN or infinite."""


@dataclass(frozen=True)
class Start:
    """Where a local phase begins.

    optimizer: the optimiser's state, from `Trained`. memory: what the objective kept after the client's last phase.
    correction: what the objective's exchange brought for this phase; {} for nothing. trainable: which values are
    trained, booleans by parameter; None for all. masking: of the update, towards which it is trained.
    """

    weights: Tensors
    buffers: Tensors
    optimizer: Tensors = field(default_factory=dict)
    objective: Objective = field(default_factory=Plain)
    memory: Tensors = field(default_factory=dict)
    correction: Tensors = field(default_factory=dict)
    trainable: Tensors | None = None
    masking: MaskedUpdate | None = None


@dataclass(frozen=True)
class Trained:
    """Where a local phase ended.

    loss: the model's mean loss over the examples of all steps. optimizer: the optimiser's state, {} unless the recipe
    keeps it. memory: what the objective keeps for the client's next phase.
    """

    weights: Tensors
    buffers: Tensors
    optimizer: Tensors
    steps: int
    loss: float
    memory: Tensors = field(default_factory=dict)


def train_locally(
    model: nn.Module, start: Start, data: Split, indices: Tensor, recipe: Training, round: int, seed: int
) -> Trained:
    """Train `model` from `start` on ``data[indices]`` and return the result; the model is used as a workspace.

    The order of examples and the model's own randomness (dropout) follow from `seed`; the global generators are left
    as they were. `TrainingFailed` when there is nothing to train on, or the loss is no longer finite.
    """
    _check_trainable(model, indices, recipe)
    parameters, buffers = parameters_of(model), buffers_of(model)
    copy_into(parameters, start.weights)
    copy_into(buffers, start.buffers)
    optimizer = recipe.build_optimizer(model.parameters(), round)
    load_optimizer(optimizer, model, start.optimizer)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    phase = LocalPhase(model, trained, start.weights, start.memory, start.correction)

    model.train()
    total_loss, seen, steps = 0.0, 0, 0
    masks, last = generator(seed, "masks"), steps_of(len(indices), recipe)
    with default_generator_seeded(derive(seed, "model")):
        for batch in batches(indices, recipe, generator(seed, "order")):
            steps += 1
            with _masked_forward(parameters, start, steps / last, masks):
                loss, value = _loss(phase, start.objective, data.inputs[batch], data.targets[batch])
                if not math.isfinite(value):
                    raise TrainingFailed(f"the loss became {value} in step {steps} of round {round}")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                start.objective.adjust_gradients(phase)
                _mask_gradients(trained, start.trainable)
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(trained.values(), recipe.clip)
            optimizer.step()
            _restore_fixed(trained, start)
            total_loss += value * len(batch)
            seen += len(batch)
    with torch.no_grad():
        memory = clone(start.objective.remember(phase)) if start.objective.keeps_memory else {}
    kept = read_optimizer(optimizer, model) if recipe.keep_optimizer else {}
    return Trained(clone(parameters), clone(buffers), kept, steps, total_loss / seen, memory)


def _masked_forward(
    parameters: Tensors, start: Start, progress: float, draws: torch.Generator
) -> AbstractContextManager[None]:
    """Return a context in which the parameters are as the masked update will be, where it is trained as such."""
    if start.masking is None:
        return nullcontext()
    from onebasin.learning.masks.masked_update import forward_with_masked_update

    return forward_with_masked_update(parameters, start.weights, start.masking, progress, draws)


def _check_trainable(model: nn.Module, indices: Tensor, recipe: Training) -> None:
    """Raise `TrainingFailed` where there is nothing to train on, or too little for BatchNorm."""
    if len(indices) == 0:
        raise TrainingFailed("this client holds no examples")
    if min(len(indices), recipe.batch) == 1 and any(isinstance(m, _BatchNorm) for m in model.modules()):
        raise TrainingFailed(f"BatchNorm cannot train on batches of 1 (batch={recipe.batch}, examples={len(indices)})")


def _loss(phase: LocalPhase, objective: Objective, inputs: Tensor, targets: Tensor) -> tuple[Tensor, float]:
    """Return the objective's loss on a batch, and the value of the model's own."""
    if objective.uses_features:
        from onebasin.learning.features import features_captured

        with features_captured(phase.model) as captured:
            outputs = phase.model(inputs)
        features = captured[-1]
    else:
        outputs, features = phase.model(inputs), None
    own = loss_of(outputs, targets)
    loss = objective.loss(phase, Batch(inputs, targets, outputs, own, features))
    value = own.item()
    if loss is not own and not math.isfinite(total := loss.item()):
        value = total
    return loss, value


@contextmanager
def default_generator_seeded(seed: int) -> Iterator[None]:
    """Seed the generator that modules such as Dropout draw from, and put it back afterwards."""
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


def batches(indices: Tensor, recipe: Training, order: torch.Generator) -> Iterator[Tensor]:
    """Yield shuffled batches, epoch after epoch, for `recipe.steps` steps or `recipe.epochs` epochs.

    A last batch of one example is left out of a longer epoch: BatchNorm cannot train on it.
    """
    size = min(recipe.batch, len(indices))
    done = 0
    epoch = 0
    while True:
        shuffled = indices[torch.randperm(len(indices), generator=order)]
        for batch in torch.split(shuffled, size):
            if len(batch) == 1 < size:
                continue
            yield batch
            done += 1
            if done == recipe.steps:
                return
        epoch += 1
        if recipe.steps is None and epoch == recipe.epochs:
            return


def steps_of(examples: int, recipe: Training) -> int:
    """Return how many batches `batches` yields."""
    if recipe.steps is not None:
        return recipe.steps
    size = min(recipe.batch, examples)
    whole, rest = divmod(examples, size)
    return recipe.epochs * (whole + (rest > 1))


def read_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> Tensors:
    """Return the optimiser's tensors, named ``parameter:quantity``."""
    return {
        f"{name}:{quantity}": torch.as_tensor(value).clone()
        for name, parameter in model.named_parameters()
        for quantity, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, saved: Tensors) -> None:
    """Put back what `read_optimizer` returned."""
    parameters = dict(model.named_parameters())
    for key, value in saved.items():
        name, _, quantity = key.rpartition(":")
        optimizer.state[parameters[name]][quantity] = value.clone()


def _mask_gradients(parameters: dict[str, nn.Parameter], trainable: Tensors | None) -> None:
    """Set the gradients of values that are not trained to zero."""
    if trainable is None:
        return
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            parameter.grad.mul_(trainable[name])


def _restore_fixed(parameters: dict[str, nn.Parameter], start: Start) -> None:
    """Put back values that are not trained: weight decay and momenta move them, too."""
    if start.trainable is None:
        return
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.where(start.trainable[name], parameter, start.weights[name]))
