"""A small decoder-only transformer (Vaswani et al. 2017; layer order of GPT-2, Radford et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from onebasin.learning.models.options import ModelError, positive


class CausalAttention(nn.Module):
    """Multi-head self-attention over [n, length, width]; a position attends to itself and to earlier positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(-2, -3) for layer in (self.query, self.key, self.value)
        )
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.out(mixed.transpose(-2, -3).flatten(-2))
        return out


class TransformerBlock(nn.Module):
    """Attention and a two-layer perceptron over [n, length, width], each after a layer norm and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.gelu = nn.GELU()
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.fc2(self.gelu(self.fc1(self.norm2(x))))
        return out


class Transformer(nn.Module):
    """Token and position embeddings, transformer blocks, a layer norm, and a linear layer at every position."""

    def __init__(self, vocabulary: int, length: int, layers: int, heads: int, width: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, vocabulary)
        # PyTorch's unit-variance embeddings are large against the blocks' outputs; GPT-2's standard deviation is 0.02.
        for embedding in (self.token, self.position):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        # A cumulative sum, unlike arange of the length, can be traced by torch.fx.
        positions = torch.ones_like(tokens, dtype=torch.long).cumsum(-1) - 1
        x = self.token(tokens.long()) + self.position(positions)
        out: Tensor = self.fc(self.norm(self.blocks(x)))
        return out


def transformer(shape: Sequence[int], classes: int, *, layers: int = 2, heads: int = 4, width: int = 128) -> nn.Module:
    """Decoder-only transformer for next-token prediction: token ids [n, length] to logits [n, length, classes].

    The default has 423,745 parameters for length 80 and a vocabulary of 65.
    shape: [length] of one input.
    classes: size of the vocabulary.
    width: size of the embeddings, a multiple of `heads`.
    Raises ModelError for another shape or an option out of range.
    """
    if len(shape) != 1:
        raise ModelError(f"transformer takes token ids [length]; this data's inputs are {list(shape)}")
    if positive("width", width) % positive("heads", heads):
        raise ModelError(f"heads: {heads}; expected a divisor of width={width}")
    return Transformer(classes, shape[0], positive("layers", layers), heads, width)
