"""What a group of clients, asked together, says of an input: each is heard where it knows something.

The mean of models that have seen other classes is a poor teacher. A client's word on a class counts in proportion to
its share of that class's examples, and its word on an input in proportion to how likely it finds that input: a mixture
of experts (Jacobs, Jordan, Nowlan, Hinton 1991) whose gates are the clients' sketches, so that nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onebasin.alignment.models import AlignmentError
from onebasin.alignment.sketches import Sketch, log_density

SHARPNESS = 3.0
"""What the log density per value is multiplied by before it is turned into shares; 0 ignores the inputs."""

FLOOR = 1e-3
"""The least probability that is taught: confident ensembles are not imitated into infinity."""


def consult(outputs: Sequence[Tensor], sketches: Sequence[Sketch], inputs: Tensor) -> Tensor:
    """Return the clients' common logits [n, classes] (mean 0) for these inputs.

    outputs: each client's logits [n, classes]. `AlignmentError` if numbers of clients or classes do not fit.
    """
    if len(outputs) != len(sketches) or any(each.shape != (len(inputs), len(sketches[0].counts)) for each in outputs):
        raise AlignmentError(
            f"{len(outputs)} clients' outputs of {[list(each.shape) for each in outputs[:1]]} for {len(sketches)} "
            f"sketches and {len(inputs)} inputs; expected one [{len(inputs)}, {len(sketches[0].counts)}] for each"
        )
    counts = torch.stack([each.counts for each in sketches]).double()
    of_class = counts / counts.sum(0).clamp_min(1.0)
    of_input = torch.softmax(SHARPNESS * log_density(sketches, inputs), 0)
    said = torch.stack([torch.softmax(each.double(), -1) for each in outputs])
    mixed = (said * of_class.unsqueeze(1) * of_input.unsqueeze(2)).sum(0)
    probabilities = mixed / mixed.sum(-1, keepdim=True)
    logits = torch.log(probabilities + FLOOR)
    return (logits - logits.mean(-1, keepdim=True)).float()
