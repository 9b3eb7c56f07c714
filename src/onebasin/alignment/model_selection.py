"""Selection among merged models without labels: the one that agrees best with the models it was merged from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onebasin.alignment.forward_hooks import forward
from onebasin.alignment.models import AlignmentError, StateDict


def disagreement(model: nn.Module, state: StateDict, inputs: object, teach: Tensor) -> float:
    """Return the mean Kullback-Leibler divergence, in nats, of a model's predictions from those of target logits.

    inputs: probes that no candidate was fitted to. teach: target logits for them [..., classes]: the models' mean
    output, or `ensemble_targets.consult`. The result is infinite if the model's output is not finite.
    Errors: `AlignmentError` if the shapes differ.
    """
    logits = forward(model, state, inputs).float()
    if logits.shape != teach.shape:
        raise AlignmentError(f"teach: shape {list(teach.shape)}; expected {list(logits.shape)}, the model's output")
    if not bool(torch.isfinite(logits).all()):
        return float("inf")
    log_probabilities, targets = F.log_softmax(logits, -1), F.log_softmax(teach.float(), -1)
    return float(F.kl_div(log_probabilities, targets, reduction="none", log_target=True).sum(-1).mean())


def choose(
    model: nn.Module, candidates: Mapping[str, StateDict], inputs: object, teach: Tensor
) -> tuple[str, dict[str, float]]:
    """Return the name of the candidate with the least disagreement (the first of equals), and the disagreement of each.

    Errors: `AlignmentError` if there is no candidate.
    """
    if not candidates:
        raise AlignmentError("candidates: none; expected at least one")
    scores = {name: disagreement(model, state, inputs, teach) for name, state in candidates.items()}
    return min(scores, key=lambda name: scores[name]), scores
