"""Masks of clients' own: what they have in common goes to all, and each keeps what it shares with nobody.

Li, Sun, Zeng, Zhang, Li, Chen: FedMask. SenSys 2021 (doi 10.1145/3485730.3485929). A client's mask is of the scores
above 0. What is common is said by signs: 1 and -1 where clients meet, 0 where each is left to itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from onebasin.core.layout import Tensors
from onebasin.methods.settings import Overlap


def nothing_in_common(scores: Tensors) -> Tensors:
    """Return the signs before any two clients have met."""
    return {name: torch.zeros_like(score) for name, score in scores.items()}


def overlap(combine: Overlap, kept: Tensor, clients: float) -> Tensor:
    """Return the signs of what masks have in common. kept: the share of so many clients that keep each weight."""
    meet = kept * clients > 1.5  # two or more; shares are rounded
    return torch.where(meet, torch.where(kept > combine.share, 1.0, -1.0), 0.0)


def own_scores(combine: Overlap, common: Tensors, own: Tensors) -> Tensors:
    """Return the scores that a client goes on from: its own, turned where the common sign is another.

    A score that agrees stays as it is, with all that it has learned.
    """
    scores: Tensors = {}
    for name, score in own.items():
        signs = common[name]
        agrees = (signs == 0) | ((signs > 0) == (score > 0))
        scores[name] = torch.where(agrees, score, torch.where(signs > 0, combine.score, -combine.score))
    return scores
