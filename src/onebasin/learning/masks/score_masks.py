"""What keeps some of a layer's weights by its scores: by chance, the highest, or those above 0.

Scores have the shape of the weights, or one that broadcasts over them: then a score is of all weights into a neuron.
The gradient passes through the choice as if it were the scores, or their chances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from onebasin.learning.masks.straight_through import drawn, masked


class ScoreMask(nn.Module):
    """A parametrization of weights that stay as they are. Its `forward` takes scores and returns the weights kept."""

    weights: Tensor

    def __init__(self, weights: Tensor, shape: Sequence[int]) -> None:
        """shape: of the scores."""
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)
        self._shape = tuple(shape)


class MaskByChance(ScoreMask):
    """Keeps each weight with the chance sigmoid(score): anew in each step of training, else the likelier of both."""

    def forward(self, scores: Tensor) -> Tensor:
        if not self.training:
            return masked(self.weights, scores > 0, scores)
        chance = torch.sigmoid(scores)
        return masked(self.weights, drawn(chance), chance)

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Return scores that leave everything open."""
        return weights.new_zeros(self._shape)


class MaskOfHighest(ScoreMask):
    """Keeps the weights with the highest scores: a share of a layer's."""

    def __init__(self, weights: Tensor, shape: Sequence[int], density: float) -> None:
        """density: the share of the scores that keep their weights."""
        super().__init__(weights, shape)
        scores = math.prod(shape)
        self._dropped = scores - max(1, round(density * scores))

    def forward(self, scores: Tensor) -> Tensor:
        flat = scores.detach().flatten()
        least = flat.kthvalue(self._dropped + 1).values
        kept = flat >= least
        extra = int(kept.sum()) + self._dropped - len(flat)
        if extra:  # of equal scores, the last ones are kept
            kept[(flat == least).nonzero().flatten()[:extra]] = False
        return masked(self.weights, kept.view_as(scores), scores)

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Return scores in the order of summed magnitudes, so that the largest weights are kept at first."""
        return weights.abs().sum_to_size(self._shape)


class MaskOfPositive(ScoreMask):
    """Keeps the weights whose scores are above 0."""

    def __init__(self, weights: Tensor, shape: Sequence[int], score: float) -> None:
        """score: of every weight at first, so that all are kept."""
        super().__init__(weights, shape)
        self._score = score

    def forward(self, scores: Tensor) -> Tensor:
        return masked(self.weights, scores > 0, scores)

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Return scores that keep every weight."""
        return weights.new_full(self._shape, self._score)
