"""Local training: some epochs, or steps, of an optimiser on one client's examples."""

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
    """Settings of the local phase, the training that a client does in one round (table `training`).

    optimizer: `sgd`, `adam`, `adamw`, or ``package.module:Name``, such as ``torch.optim:RMSprop``.
    optimizer_options: further arguments of the optimiser.
    lr: the learning rate in round 1.
    lr_decay: the factor by which the learning rate is multiplied after each round.
    momentum: of `sgd`, or of an optimiser from outside that takes it.
    weight_decay: of any optimiser.
    batch: examples per step.
    epochs: passes over the client's examples.
    steps: number of steps; if given, it replaces `epochs`.
    warmup: epochs of the phase in which a client trains its own initialisation (``method.start="local"``); None: as in
    other rounds.
    warmup_optimizer: the optimiser of that phase, without momentum and options; None: `optimizer`.
    warmup_lr: the learning rate of that phase; None: `lr`.
    clip: the largest norm of a gradient; None for no limit.
    keep_optimizer: whether clients keep the state of the optimiser, such as momenta, between rounds.
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
        """Return the learning rate of a round; rounds count from 1."""
        return self.lr * self.lr_decay ** (round - 1)


class TrainingFailed(RuntimeError):
    """A client cannot train: it has no examples, its loss is NaN or infinite, or its model raises an error."""


@dataclass(frozen=True)
class Start:
    """The starting point of a local phase.

    optimizer: the optimiser's state, from `Trained`. memory: what the objective kept after the client's last phase.
    correction: the tensors that the hook of the objective (`exchange`) read from the request; {} for none.
    trainable: which values are trained, booleans by parameter; None for all.
    masking: how the update will be turned into a mask over noise before it is sent; the forward passes then use the
    masked update, so that training accounts for it. None if updates are not trained as masks.
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
    """The result of a local phase.

    weights, buffers: of the model, by name.
    optimizer: the optimiser's state; {} unless `Training.keep_optimizer` is set.
    steps: number of steps.
    loss: mean loss of the model over the examples of all steps, in nats; without the objective's additional terms.
    memory: the tensors that the objective keeps for the client's next phase.
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
    """Train a model from a starting point on some examples of a split.

    The state of torch's global generators is restored afterwards.
    model: a workspace; its weights are overwritten.
    data, indices: the examples are ``data[indices]``.
    round: determines the learning rate; rounds count from 1.
    seed: determines the order of the examples and the model's randomness, such as dropout.
    Raises TrainingFailed if there are no examples, or if the loss becomes NaN or infinite.
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
    mask_draws, total_steps = generator(seed, "masks"), steps_of(len(indices), recipe)
    with default_generator_seeded(derive(seed, "model")):
        for batch in batches(indices, recipe, generator(seed, "order")):
            steps += 1
            with _masked_forward(parameters, start, steps / total_steps, mask_draws):
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
    optimizer_state = read_optimizer(optimizer, model) if recipe.keep_optimizer else {}
    return Trained(clone(parameters), clone(buffers), optimizer_state, steps, total_loss / seen, memory)


def _masked_forward(
    parameters: Tensors, start: Start, progress: float, draws: torch.Generator
) -> AbstractContextManager[None]:
    """Return a context in which the parameters are the starting point plus the masked update.

    If updates are not trained as masks, the context changes nothing.
    """
    if start.masking is None:
        return nullcontext()
    from onebasin.learning.masks.masked_update import forward_with_masked_update

    return forward_with_masked_update(parameters, start.weights, start.masking, progress, draws)


def _check_trainable(model: nn.Module, indices: Tensor, recipe: Training) -> None:
    """Raise TrainingFailed if there are no examples, or too few for BatchNorm."""
    if len(indices) == 0:
        raise TrainingFailed("this client holds no examples")
    if min(len(indices), recipe.batch) == 1 and any(isinstance(m, _BatchNorm) for m in model.modules()):
        raise TrainingFailed(f"BatchNorm cannot train on batches of 1 (batch={recipe.batch}, examples={len(indices)})")


def _loss(phase: LocalPhase, objective: Objective, inputs: Tensor, targets: Tensor) -> tuple[Tensor, float]:
    """Return the objective's loss on a batch, and the value of the model's own loss.

    If only the objective's loss is not finite, its value is returned, so that training stops.
    """
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
    """Seed torch's default generator, which modules such as Dropout use, and restore its state afterwards."""
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


def batches(indices: Tensor, recipe: Training, order: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of shuffled indices for `recipe.steps` steps, or for `recipe.epochs` epochs.

    If the last batch of an epoch would have one example, and others have more, it is skipped: BatchNorm cannot train
    on it.
    indices: [n], of the examples. order: the generator that shuffles them.
    """
    size = min(recipe.batch, len(indices))
    steps = 0
    epoch = 0
    while True:
        shuffled = indices[torch.randperm(len(indices), generator=order)]
        for batch in torch.split(shuffled, size):
            if len(batch) == 1 < size:
                continue
            yield batch
            steps += 1
            if steps == recipe.steps:
                return
        epoch += 1
        if recipe.steps is None and epoch == recipe.epochs:
            return


def steps_of(examples: int, recipe: Training) -> int:
    """Return the number of batches that `batches` yields."""
    if recipe.steps is not None:
        return recipe.steps
    size = min(recipe.batch, examples)
    full_batches, rest = divmod(examples, size)
    return recipe.epochs * (full_batches + (rest > 1))


def read_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> Tensors:
    """Return the tensors of an optimiser's state, named ``parameter:quantity``."""
    return {
        f"{name}:{quantity}": torch.as_tensor(value).clone()
        for name, parameter in model.named_parameters()
        for quantity, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, saved: Tensors) -> None:
    """Restore the state that `read_optimizer` returned."""
    parameters = dict(model.named_parameters())
    for key, value in saved.items():
        name, _, quantity = key.rpartition(":")
        optimizer.state[parameters[name]][quantity] = value.clone()


def _mask_gradients(parameters: dict[str, nn.Parameter], trainable: Tensors | None) -> None:
    """Set the gradient of each value that is not trained to zero."""
    if trainable is None:
        return
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            parameter.grad.mul_(trainable[name])


def _restore_fixed(parameters: dict[str, nn.Parameter], start: Start) -> None:
    """Restore the values that are not trained: weight decay and momenta change them even if the gradient is zero."""
    if start.trainable is None:
        return
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.where(start.trainable[name], parameter, start.weights[name]))
