"""A character model with gated recurrent units (Cho et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from onebasin.learning.models.options import ModelError, positive


class NextToken(nn.Module):
    """Embedding, stacked GRU layers, and a linear layer at every position: [n, length] to [n, length, vocabulary]."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.gru = nn.GRU(embedding, hidden, layers, batch_first=True)
        self.fc = nn.Linear(hidden, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.gru(self.embedding(tokens.long()))
        out: Tensor = self.fc(states)
        return out


def gru(shape: Sequence[int], classes: int, *, embedding: int = 64, hidden: int = 128, layers: int = 2) -> nn.Module:
    """GRU for next-token prediction: token ids [n, length] to logits [n, length, classes].

    The default has 186,113 parameters for a vocabulary of 65.
    shape: [length] of one input.
    classes: size of the vocabulary.
    Raises ModelError for another shape or an option out of range.
    """
    if len(shape) != 1:
        raise ModelError(f"gru takes token ids [length]; this data's inputs are {list(shape)}")
    return NextToken(classes, positive("embedding", embedding), positive("hidden", hidden), positive("layers", layers))
