"""Transformers and recurrent networks for these tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Encoder(nn.Module):
    """PyTorch's transformer encoder with a causal mask, and positions for longer sequences than those of the tests."""

    def __init__(self, batch_first: bool, norm_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.embedding = nn.Embedding(11, 16)
        self.positions = nn.Parameter(torch.randn(20, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=batch_first, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = self.embedding(tokens) + self.positions[:length]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        x = self.encoder(x if self.batch_first else x.transpose(0, 1), mask=mask)
        out: Tensor = self.out(x)
        return out


class FusedAttention(nn.Module):
    """Query, key and value from one linear layer, split along channels; the mask is a buffer in the state_dict."""

    def __init__(self, width: int, heads: int, longest: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.drop = nn.Dropout(0.1)
        self.register_buffer("mask", torch.tril(torch.ones(longest, longest)))

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = (part.view(n, length, self.heads, -1).transpose(1, 2) for part in self.qkv(x).split(width, dim=2))
        scores = q @ k.transpose(-2, -1) / (width // self.heads) ** 0.5
        scores = scores.masked_fill(self.mask[:length, :length] == 0, float("-inf"))
        mixed = self.drop(F.softmax(scores, -1)) @ v
        out: Tensor = self.out(mixed.transpose(1, 2).contiguous().view(n, length, width))
        return out


class GPT(nn.Module):
    """Fused attention, and an output layer that is tied to the embedding."""

    def __init__(self, vocabulary: int = 17, width: int = 24, heads: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(16, width)
        self.norm1, self.attention = nn.LayerNorm(width), FusedAttention(width, heads, 16)
        self.norm2, self.fc, self.back = nn.LayerNorm(width), nn.Linear(width, 96), nn.Linear(96, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        x = x + self.attention(self.norm1(x))
        x = x + self.back(F.gelu(self.fc(self.norm2(x))))
        out: Tensor = self.head(self.norm(x))
        return out


class StackedAttention(nn.Module):
    """Query, key and value from one linear layer, reshaped to [3, heads, ...] and unbound along the first axis."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1 if self.training else 0.0)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(n, length, width))
        return out


class ViT(nn.Module):
    def __init__(self, width: int = 24, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 5, width))
        self.norm1, self.attention = nn.LayerNorm(width), StackedAttention(width, heads)
        self.norm2, self.fc, self.back = nn.LayerNorm(width), nn.Linear(width, 48), nn.Linear(48, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        x = x + self.attention(self.norm1(x))
        x = x + self.back(F.gelu(self.fc(self.norm2(x))))
        out: Tensor = self.head(self.norm(x)[:, 0])
        return out


class Recurrent(nn.Module):
    def __init__(
        self, kind: type[nn.RNNBase], layers: int = 2, bidirectional: bool = False, last: bool = False
    ) -> None:
        super().__init__()
        self.last = last
        self.embedding = nn.Embedding(9, 8)
        self.rnn = kind(8, 12, layers, bidirectional=bidirectional, batch_first=True, dropout=0.2)
        self.out = nn.Linear(24 if bidirectional else 12, 9)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.rnn(self.embedding(tokens))
        out: Tensor = self.out(states[:, -1] if self.last else states)
        return out
