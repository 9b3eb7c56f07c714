"""How well a model does: mean cross-entropy and accuracy, over classes or over next tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from onebasin.modes import evaluation_mode
from onebasin.tasks.examples import Split


@dataclass(frozen=True)
class Score:
    """accuracy: fraction of right predictions. loss: mean cross-entropy in nats. examples: how many predictions."""

    accuracy: float
    loss: float
    examples: int


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats. logits [n, classes], targets [n]; or [n, length, classes] and [n, length]."""
    return cross_entropy(logits.flatten(0, -2), targets.flatten())


def evaluate(model: nn.Module, split: Split, batch: int = 1000) -> Score:
    """Score a model, in evaluation mode, on every example of a split, `batch` at a time, on the model's device.

    For sequences every position is a prediction. Losses are summed in float64 on the CPU, in the split's order.
    Raises ValueError if the split is empty or batch < 1.
    """
    if len(split) == 0:
        raise ValueError("split: no examples; expected at least one")
    if batch < 1:
        raise ValueError(f"batch: {batch}; expected at least 1")
    first = next(model.parameters(), None)
    device = first.device if first is not None else torch.device("cpu")
    correct, loss = 0, 0.0
    with evaluation_mode(model), torch.inference_mode():
        for inputs, targets in zip(torch.split(split.inputs, batch), torch.split(split.targets, batch), strict=True):
            logits = model(inputs.to(device)).flatten(0, -2)
            wanted = targets.to(device).flatten()
            correct += int((logits.argmax(1) == wanted).sum())
            loss += float(cross_entropy(logits, wanted, reduction="none").cpu().double().sum())
    examples = split.targets.numel()
    return Score(accuracy=correct / examples, loss=loss / examples, examples=examples)


def evaluate_together(
    model: nn.Module, members: Sequence[tuple[Mapping[str, Tensor], float]], split: Split, batch: int = 1000
) -> Score:
    """Score several models' weighted mean of predicted probabilities. members: each one's state, and its weight.

    Everything else as in `evaluate`.
    """
    if not members or len(split) == 0:
        raise ValueError(f"{len(members)} models on {len(split)} examples; expected at least one of each")
    total = sum(weight for _, weight in members)
    correct, loss = 0, 0.0
    with evaluation_mode(model), torch.inference_mode():
        for inputs, targets in zip(torch.split(split.inputs, batch), torch.split(split.targets, batch), strict=True):
            wanted = targets.flatten()
            said = torch.zeros(())
            for state, weight in members:
                logits = functional_call(model, dict(state), (inputs,)).flatten(0, -2)
                said = said + torch.softmax(logits.double(), -1) * (weight / total)
            correct += int((said.argmax(1) == wanted).sum())
            loss -= float(said.gather(1, wanted.unsqueeze(1)).clamp_min(1e-30).log().sum())
    examples = split.targets.numel()
    return Score(accuracy=correct / examples, loss=loss / examples, examples=examples)
