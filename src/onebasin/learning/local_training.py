"""The local loop: some epochs or steps of an optimiser over one client's examples."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from onebasin.core.layout import Tensors
from onebasin.core.seeds import derive, generator
from onebasin.federation.run_config import Training
from onebasin.learning.data.load import Split
from onebasin.learning.metrics import loss_of
from onebasin.learning.parametrizations.masked_update import Masking, standing_in
from onebasin.networks.weights import buffers_of, clone, copy_into, parameters_of


class TrainingFailed(RuntimeError):
    """A client's training that cannot go on: no examples, or a loss that is NaN or infinite."""


@dataclass(frozen=True)
class Start:
    """Where training begins.

    proximal: mu of mu/2 |w - weights|^2. correction: added to every gradient. optimizer: momenta from `Trained`.
    free: which values are trained, as booleans; None for all. masking: of the update, towards which is trained.
    """

    weights: Tensors
    buffers: Tensors
    optimizer: Tensors = field(default_factory=dict)
    proximal: float = 0.0
    correction: Tensors | None = None
    free: Tensors | None = None
    masking: Masking | None = None


@dataclass(frozen=True)
class Trained:
    """Where training ended. loss: mean over the examples of all steps. optimizer: {} unless the recipe keeps it."""

    weights: Tensors
    buffers: Tensors
    optimizer: Tensors
    steps: int
    loss: float


def train_locally(
    model: nn.Module, start: Start, data: Split, indices: Tensor, recipe: Training, round: int, seed: int
) -> Trained:
    """Train `model` from `start` on ``data[indices]`` and return what came out; `model` is only a place to work.

    The order of examples and the model's own randomness (dropout) follow from `seed`; the global generators are left
    as they were. `TrainingFailed` when there is nothing to train on, or the loss is no longer finite.
    """
    if len(indices) == 0:
        raise TrainingFailed("this client holds no examples")
    if min(len(indices), recipe.batch) == 1 and any(isinstance(m, _BatchNorm) for m in model.modules()):
        raise TrainingFailed(f"BatchNorm cannot train on batches of 1 (batch={recipe.batch}, examples={len(indices)})")
    parameters, buffers = parameters_of(model), buffers_of(model)
    copy_into(parameters, start.weights)
    copy_into(buffers, start.buffers)
    optimizer = make_optimizer(model, recipe, round)
    load_optimizer(optimizer, model, start.optimizer)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    anchors = [start.weights[name] for name in parameters]
    correction = None if start.correction is None else [start.correction[name] for name in parameters]
    free = None if start.free is None else [start.free[name] for name in parameters]

    model.train()
    total_loss, seen, steps = 0.0, 0, 0
    masks, last = generator(seed, "masks"), steps_of(len(indices), recipe)
    with default_generator_seeded(derive(seed, "model")):
        for batch in batches(indices, recipe, generator(seed, "order")):
            steps += 1
            with standing_in(parameters, start.weights, start.masking, steps / last, masks):
                loss = loss_of(model(data.inputs[batch]), data.targets[batch])
                value = loss.item()
                if not math.isfinite(value):
                    raise TrainingFailed(f"the loss became {value} in step {steps} of round {round}")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
            _adjust_gradients(trained, start.proximal, anchors, correction, free)
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(trained, recipe.clip)
            optimizer.step()
            _hold(trained, anchors, free)
            total_loss += value * len(batch)
            seen += len(batch)
    kept = read_optimizer(optimizer, model) if recipe.keep_optimizer else {}
    return Trained(clone(parameters), clone(buffers), kept, steps, total_loss / seen)


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


def make_optimizer(model: nn.Module, recipe: Training, round: int) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over the model's parameters, its rate decayed to this round (from 1)."""
    rate = recipe.lr * recipe.lr_decay ** (round - 1)
    parameters = model.parameters()
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, rate, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(parameters, rate, weight_decay=recipe.weight_decay)


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


def _adjust_gradients(
    parameters: list[nn.Parameter],
    proximal: float,
    anchors: list[Tensor],
    correction: list[Tensor] | None,
    free: list[Tensor] | None,
) -> None:
    if not proximal and correction is None and free is None:
        return
    with torch.no_grad():
        for position, parameter in enumerate(parameters):
            if parameter.grad is None:  # frozen or unused: it has not moved, so both terms are zero
                continue
            if proximal:
                parameter.grad.add_(parameter - anchors[position], alpha=proximal)
            if correction is not None:
                parameter.grad.add_(correction[position])
            if free is not None:
                parameter.grad.mul_(free[position])


def _hold(parameters: list[nn.Parameter], anchors: list[Tensor], free: list[Tensor] | None) -> None:
    """Put back what is not trained: weight decay and momenta move it, too."""
    if free is None:
        return
    with torch.no_grad():
        for parameter, anchor, trained in zip(parameters, anchors, free, strict=True):
            parameter.copy_(torch.where(trained, parameter, anchor))
