"""How well a model does: mean cross-entropy and accuracy, over classes or over next tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from onebasin.learning.data.examples import Split
from onebasin.networks.evaluation_mode import evaluation_mode
from onebasin.networks.functional_call import stateless_call


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
    correct, loss = 0, 0.0
    for _, right, losses in _judged(model, split, batch):
        correct += int(right.sum())
        loss += float(losses.sum())
    examples = split.targets.numel()
    return Score(accuracy=correct / examples, loss=loss / examples, examples=examples)


@dataclass(frozen=True)
class ByClass:
    """A model's scores, class by class: of how many `examples` [classes] it was `correct`, its `loss` summed, in nats.

    For sequences every position is a prediction, and the next token its class.
    """

    examples: Tensor
    correct: Tensor
    loss: Tensor

    def on(self, labels: Tensor) -> Score | None:
        """The score on a distribution of labels, `labels` [classes] examples of each; None where none can be judged.

        Accuracy: the sum over classes c of n_c / n * (the accuracy on the test examples of class c); the loss alike.
        n_c: the labels of class c; n: of all classes that the test split has, for of others nothing is known.
        """
        weights = torch.where(self.examples > 0, labels.double(), 0.0)
        total = float(weights.sum())
        if not total:
            return None
        of_each = weights / total / self.examples.clamp(min=1)
        return Score(
            accuracy=float((of_each * self.correct).sum()),
            loss=float(torch.where(of_each > 0, of_each * self.loss, 0.0).sum()),
            examples=int(self.examples[weights > 0].sum()),
        )


def evaluate_by_class(model: nn.Module, split: Split, classes: int, batch: int = 1000) -> ByClass:
    """Score a model on the examples of each of so many classes. Everything else as in `evaluate`."""
    examples, correct = torch.zeros(classes, dtype=torch.int64), torch.zeros(classes, dtype=torch.int64)
    loss = torch.zeros(classes, dtype=torch.float64)
    for wanted, right, losses in _judged(model, split, batch):
        examples += torch.bincount(wanted, minlength=classes)
        correct += torch.bincount(wanted[right], minlength=classes)
        loss.index_add_(0, wanted, losses)
    return ByClass(examples, correct, loss)


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
                logits = stateless_call(model, state, (inputs,)).flatten(0, -2)
                said = said + torch.softmax(logits.double(), -1) * (weight / total)
            correct += int((said.argmax(1) == wanted).sum())
            loss -= float(said.gather(1, wanted.unsqueeze(1)).clamp_min(1e-30).log().sum())
    examples = split.targets.numel()
    return Score(accuracy=correct / examples, loss=loss / examples, examples=examples)


def _judged(model: nn.Module, split: Split, batch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield, batch by batch and on the CPU: the right classes, whether each was said, and the losses, in float64."""
    if len(split) == 0:
        raise ValueError("split: no examples; expected at least one")
    if batch < 1:
        raise ValueError(f"batch: {batch}; expected at least 1")
    first = next(model.parameters(), None)
    device = first.device if first is not None else torch.device("cpu")
    with evaluation_mode(model):
        for inputs, targets in zip(torch.split(split.inputs, batch), torch.split(split.targets, batch), strict=True):
            with torch.inference_mode():
                logits = model(inputs.to(device)).flatten(0, -2)
                wanted = targets.to(device).flatten()
                losses = cross_entropy(logits, wanted, reduction="none")
            yield wanted.cpu(), (logits.argmax(1) == wanted).cpu(), losses.cpu().double()
