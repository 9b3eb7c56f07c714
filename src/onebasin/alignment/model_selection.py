"""Choosing among merged models without labels: the one that agrees best with the models it was made of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onebasin.alignment.forward_hooks import forward
from onebasin.alignment.models import AlignmentError, State


def disagreement(model: nn.Module, state: State, inputs: object, teach: Tensor) -> float:
    """Return the mean Kullback-Leibler divergence, in nats, of a model's predictions from those that logits teach.

    inputs: probes that no candidate was fitted to. teach: logits for them [..., classes]: the models' mean output, or
    `experts.consult`. Infinite for a model whose output is not finite.
    """
    logits = forward(model, state, inputs).float()
    if logits.shape != teach.shape:
        raise AlignmentError(f"teach: shape {list(teach.shape)}; expected {list(logits.shape)}, the model's output")
    if not bool(torch.isfinite(logits).all()):
        return float("inf")
    said, wanted = F.log_softmax(logits, -1), F.log_softmax(teach.float(), -1)
    return float(F.kl_div(said, wanted, reduction="none", log_target=True).sum(-1).mean())


def choose(
    model: nn.Module, candidates: Mapping[str, State], inputs: object, teach: Tensor
) -> tuple[str, dict[str, float]]:
    """Return the name of the candidate that disagrees least, the first of equals, and what each scored."""
    if not candidates:
        raise AlignmentError("candidates: none; expected at least one")
    scores = {name: disagreement(model, state, inputs, teach) for name, state in candidates.items()}
    return min(scores, key=lambda name: scores[name]), scores
