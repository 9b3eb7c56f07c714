"""Masks from trained scores: they keep weights by chance, those with the highest scores, or those with scores above 0.

Scores have the shape of the weights, or [out, 1, ...], where one score decides on all incoming weights of a neuron. The
gradient passes straight through the mask, as if it were the scores or their probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from onebasin.learning.masks.straight_through import apply_mask, draw_mask


class ScoreMask(nn.Module):
    """A parametrization of fixed weights by scores: `forward` takes the scores and returns the masked weights.

    `right_inverse` returns the initial scores.
    """

    weights: Tensor

    def __init__(self, weights: Tensor, shape: Sequence[int]) -> None:
        """Fix the weights. shape: of the scores."""
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)
        self._shape = tuple(shape)


class StochasticMask(ScoreMask):
    """Keeps each weight with probability sigmoid(score).

    In training mode a mask is drawn in each forward pass; in evaluation mode weights with scores above 0 are kept.
    """

    def forward(self, scores: Tensor) -> Tensor:
        if not self.training:
            return apply_mask(self.weights, scores > 0, scores)
        probabilities = torch.sigmoid(scores)
        return apply_mask(self.weights, draw_mask(probabilities), probabilities)

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Return zeros: every probability is 1/2."""
        return weights.new_zeros(self._shape)


class HighestScoresMask(ScoreMask):
    """Keeps a fixed share of a layer's weights, those with the highest scores."""

    def __init__(self, weights: Tensor, shape: Sequence[int], density: float) -> None:
        """Fix the weights. shape: of the scores. density: the share of the scores whose weights are kept."""
        super().__init__(weights, shape)
        scores = math.prod(shape)
        self._dropped = scores - max(1, round(density * scores))

    def forward(self, scores: Tensor) -> Tensor:
        flat = scores.detach().flatten()
        threshold = flat.kthvalue(self._dropped + 1).values
        kept = flat >= threshold
        extra = int(kept.sum()) + self._dropped - len(flat)
        if extra:  # of equal scores, the last ones are kept
            kept[(flat == threshold).nonzero().flatten()[:extra]] = False
        return apply_mask(self.weights, kept.view_as(scores), scores)

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Return the sums of the weights' magnitudes, so that the largest weights are kept at first."""
        return weights.abs().sum_to_size(self._shape)


class PositiveScoresMask(ScoreMask):
    """Keeps the weights whose scores are above 0."""

    def __init__(self, weights: Tensor, shape: Sequence[int], score: float) -> None:
        """Fix the weights. shape: of the scores. score: the initial score of each weight, above 0."""
        super().__init__(weights, shape)
        self._score = score

    def forward(self, scores: Tensor) -> Tensor:
        return apply_mask(self.weights, scores > 0, scores)

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Return the initial score for each weight: all are kept."""
        return weights.new_full(self._shape, self._score)
