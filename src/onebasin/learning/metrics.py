"""Model evaluation: accuracy and mean cross-entropy, for classes or for next tokens."""

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
    """The score of a model on a set of predictions.

    accuracy: fraction of correct predictions.
    loss: mean cross-entropy in nats.
    examples: number of predictions.
    """

    accuracy: float
    loss: float
    examples: int


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy, in nats.

    logits: [n, classes], or [n, length, classes] for sequences.
    targets: int64 [n], or [n, length] for sequences.
    """
    return cross_entropy(logits.flatten(0, -2), targets.flatten())


def evaluate(model: nn.Module, split: Split, batch: int = 1000) -> Score:
    """Evaluate a model on every example of a split, in evaluation mode and on the model's device.

    For sequences, every position is one prediction. Losses are summed in float64 on the CPU, in the split's order.
    batch: number of examples per forward pass.
    Raises ValueError if the split is empty or batch < 1.
    """
    correct, loss = 0, 0.0
    for _, right, losses in _predictions(model, split, batch):
        correct += int(right.sum())
        loss += float(losses.sum())
    examples = split.targets.numel()
    return Score(accuracy=correct / examples, loss=loss / examples, examples=examples)


@dataclass(frozen=True)
class ByClass:
    """The scores of a model, per class.

    For sequences, every position is one prediction, and the next token is its class.
    examples: int64 [classes], number of predictions per true class.
    correct: int64 [classes], number of correct ones.
    loss: float64 [classes], sum of their cross-entropies in nats.
    """

    examples: Tensor
    correct: Tensor
    loss: Tensor

    def on(self, labels: Tensor) -> Score | None:
        """Estimate the score on another label distribution.

        The accuracy is the sum over classes c of n_c / n times the accuracy on class c, where n_c is the number of
        labels of class c, and n is their sum over the classes that have test examples; the loss likewise.
        labels: [classes], number of examples per class.
        Returns None if none of these classes has test examples.
        """
        weights = torch.where(self.examples > 0, labels.double(), 0.0)
        total = float(weights.sum())
        if not total:
            return None
        example_weights = weights / total / self.examples.clamp(min=1)
        return Score(
            accuracy=float((example_weights * self.correct).sum()),
            loss=float(torch.where(example_weights > 0, example_weights * self.loss, 0.0).sum()),
            examples=int(self.examples[weights > 0].sum()),
        )


def evaluate_by_class(model: nn.Module, split: Split, classes: int, batch: int = 1000) -> ByClass:
    """Evaluate a model per true class.

    classes: number of classes. Other arguments and errors: as in `evaluate`.
    """
    examples, correct = torch.zeros(classes, dtype=torch.int64), torch.zeros(classes, dtype=torch.int64)
    loss = torch.zeros(classes, dtype=torch.float64)
    for labels, right, losses in _predictions(model, split, batch):
        examples += torch.bincount(labels, minlength=classes)
        correct += torch.bincount(labels[right], minlength=classes)
        loss.index_add_(0, labels, losses)
    return ByClass(examples, correct, loss)


def evaluate_together(
    model: nn.Module, members: Sequence[tuple[Mapping[str, Tensor], float]], split: Split, batch: int = 1000
) -> Score:
    """Evaluate an ensemble: the weighted mean of several models' predicted probabilities.

    model: the architecture that all members share.
    members: the state dict and the weight of each model.
    batch: number of examples per forward pass.
    Raises ValueError if there are no members or no examples.
    """
    if not members or len(split) == 0:
        raise ValueError(f"{len(members)} models on {len(split)} examples; expected at least one of each")
    total = sum(weight for _, weight in members)
    correct, loss = 0, 0.0
    with evaluation_mode(model), torch.inference_mode():
        for inputs, targets in zip(torch.split(split.inputs, batch), torch.split(split.targets, batch), strict=True):
            labels = targets.flatten()
            probabilities = torch.zeros(())
            for state, weight in members:
                logits = stateless_call(model, state, (inputs,)).flatten(0, -2)
                probabilities = probabilities + torch.softmax(logits.double(), -1) * (weight / total)
            correct += int((probabilities.argmax(1) == labels).sum())
            loss -= float(probabilities.gather(1, labels.unsqueeze(1)).clamp_min(1e-30).log().sum())
    examples = split.targets.numel()
    return Score(accuracy=correct / examples, loss=loss / examples, examples=examples)


def _predictions(model: nn.Module, split: Split, batch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield per batch, on the CPU: true classes [m], whether each was predicted [m], and float64 losses [m]."""
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
                labels = targets.to(device).flatten()
                losses = cross_entropy(logits, labels, reduction="none")
            yield labels.cpu(), (logits.argmax(1) == labels).cpu(), losses.cpu().double()
