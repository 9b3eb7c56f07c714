"""Targets of an ensemble of clients: a mixture that weights each client by class and by input.

The plain mean of models that have seen different classes is a poor teacher. Here a client's probability of a class is
weighted by its share of the examples of that class, and its prediction for an input by the likelihood of that input
under its sketch: a mixture of experts (Jacobs, Jordan, Nowlan, Hinton 1991) whose gates are the clients' sketches, so
that nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onebasin.alignment.models import AlignmentError
from onebasin.alignment.sketches import Sketch, log_density

SHARPNESS = 3.0
"""Factor on the log density per value before the softmax over the clients; 0 ignores the inputs."""

FLOOR = 1e-3
"""Probability that is added to each class, so that the logits of a confident ensemble stay bounded."""


def consult(outputs: Sequence[Tensor], sketches: Sequence[Sketch], inputs: Tensor) -> Tensor:
    """Return the ensemble's logits [n, classes], with mean 0 over the classes, for these inputs.

    outputs: each client's logits [n, classes]. sketches: one for each client. inputs: [n, ...].
    Errors: `AlignmentError` if the numbers of clients, inputs or classes do not fit.
    """
    if len(outputs) != len(sketches) or any(each.shape != (len(inputs), len(sketches[0].counts)) for each in outputs):
        raise AlignmentError(
            f"{len(outputs)} clients' outputs of {[list(each.shape) for each in outputs[:1]]} for {len(sketches)} "
            f"sketches and {len(inputs)} inputs; expected one [{len(inputs)}, {len(sketches[0].counts)}] for each"
        )
    counts = torch.stack([each.counts for each in sketches]).double()
    class_weights = counts / counts.sum(0).clamp_min(1.0)
    input_weights = torch.softmax(SHARPNESS * log_density(sketches, inputs), 0)
    probabilities = torch.stack([torch.softmax(each.double(), -1) for each in outputs])
    mixed = (probabilities * class_weights.unsqueeze(1) * input_weights.unsqueeze(2)).sum(0)
    mean_probabilities = mixed / mixed.sum(-1, keepdim=True)
    logits = torch.log(mean_probabilities + FLOOR)
    return (logits - logits.mean(-1, keepdim=True)).float()
