"""Networks with unusual operations, each of which tests one idea."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SmallNet(nn.Module):
    """A network that creates its layers in `build`."""

    def __init__(self) -> None:
        super().__init__()
        self.build()

    def build(self) -> None:
        raise NotImplementedError


class TiedAutoencoder(SmallNet):
    def build(self) -> None:
        self.w, self.b = nn.Parameter(torch.randn(16, 8)), nn.Parameter(torch.randn(16))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x @ self.w.t() + self.b) @ self.w


class GatedUnits(SmallNet):
    def build(self) -> None:
        self.a, self.b, self.o = nn.Linear(8, 24), nn.Linear(12, 20), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o(F.glu(self.b(F.glu(self.a(x)))))
        return out


class Maxout(SmallNet):
    def build(self) -> None:
        self.a, self.o = nn.Linear(8, 24), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o(self.a(x).view(-1, 12, 2).max(-1)[0])
        return out


class SpectralNorm(SmallNet):
    def build(self) -> None:
        self.a = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 16))
        self.o = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o(F.relu(self.a(x)))
        return out


class WeightNorm(SmallNet):
    def build(self) -> None:
        self.a = nn.utils.parametrizations.weight_norm(nn.Linear(8, 16))
        self.b = nn.utils.parametrizations.weight_norm(nn.Linear(16, 10))
        self.o = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o(F.relu(self.b(F.relu(self.a(x)))))
        return out


class WeightStandardisation(SmallNet):
    def build(self) -> None:
        self.a, self.b, self.o = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Linear(16, 2)

    def conv(self, layer: nn.Conv2d, x: Tensor) -> Tensor:
        weight = layer.weight - layer.weight.mean((1, 2, 3), keepdim=True)
        return F.relu(F.conv2d(x, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), layer.bias))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o(self.conv(self.b, self.conv(self.a, x)).mean((2, 3)))
        return out


class TwoInputs(SmallNet):
    def build(self) -> None:
        self.a, self.b, self.o = nn.Linear(8, 16), nn.Linear(8, 12), nn.Linear(6, 2)
        self.both = nn.Bilinear(16, 12, 6)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out: Tensor = self.o(torch.tanh(self.both(F.relu(self.a(x)), F.relu(self.b(y)))))
        return out


class TokenMixer(SmallNet):
    """An MLP-Mixer block: hidden neurons over positions, then over channels."""

    def build(self) -> None:
        self.i, self.o = nn.Linear(8, 10), nn.Linear(10, 2)
        self.t1, self.t2 = nn.Linear(6, 5), nn.Linear(5, 6)
        self.c1, self.c2 = nn.Conv1d(6, 7, 1), nn.Conv1d(7, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.i(x)
        x = x + self.t2(F.gelu(self.t1(x.transpose(1, 2)))).transpose(1, 2)
        out: Tensor = self.o((x + self.c2(F.gelu(self.c1(x)))).mean(1))
        return out


class EinsumAttention(SmallNet):
    """Attention heads on their own axis; query, key and value weights are three-dimensional parameters."""

    def build(self) -> None:
        self.q, self.k = nn.Parameter(torch.randn(8, 4, 3)), nn.Parameter(torch.randn(8, 4, 3))
        self.v, self.o = nn.Parameter(torch.randn(8, 4, 5)), nn.Parameter(torch.randn(4, 5, 8))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (torch.einsum("btc,chd->bhtd", x, w) for w in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("bhtd,bhsd->bhts", q, k), -1)
        return torch.einsum("bhts,bhsd,hdc->btc", weights, v, self.o)


class TalkingHeads(SmallNet):
    """The scores of all heads are mixed, so the heads before and after the mixture are different groups."""

    def build(self) -> None:
        self.qkv, self.mix, self.o = nn.Linear(8, 48), nn.Linear(4, 4), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q, k, v = self.qkv(x).view(n, length, 3, 4, 4).permute(2, 0, 3, 1, 4)
        scores = self.mix((q @ k.mT).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        out: Tensor = self.o((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, 16))
        return out


class GroupedQueries(SmallNet):
    """Four heads of queries share two heads of keys and values."""

    def build(self) -> None:
        self.q, self.kv, self.o = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q = self.q(x).view(n, length, 4, 3).transpose(1, 2)
        k, v = (part.view(n, length, 2, 3).transpose(1, 2) for part in self.kv(x).chunk(2, -1))
        k, v = k.repeat_interleave(2, 1), v[:, :, None].expand(n, 2, 2, length, 3).reshape(n, 4, length, 3)
        out: Tensor = self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class Rotary(SmallNet):
    """Positions rotate pairs of query and key dimensions, each pair at its own frequency; values are not rotated."""

    def build(self) -> None:
        self.q, self.k, self.v, self.o = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def rotate(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        x = x.view(n, length, 2, 4).transpose(1, 2)
        angle = torch.arange(length)[:, None] * torch.tensor([1.0, 0.1]).repeat(2)
        rotated = torch.cat([-x[..., 2:], x[..., :2]], -1)
        return x * angle.cos() + rotated * angle.sin()

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        v = self.v(x).view(n, length, 2, 3).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(self.rotate(self.q(x)), self.rotate(self.k(x)), v)
        out: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return out


class Ensemble(SmallNet):
    """Four networks in parallel with separate outputs, so only the neurons inside each can be permuted."""

    def build(self) -> None:
        self.w, self.b = nn.Parameter(torch.randn(4, 8, 6)), nn.Parameter(torch.randn(4, 1, 6))
        self.v = nn.Parameter(torch.randn(4, 6, 2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(F.relu(torch.einsum("bi,eih->ebh", x, self.w) + self.b), self.v)


class EnsembleMean(Ensemble):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean(0)


class Slices(SmallNet):
    """Two parts of a layer are processed differently."""

    def build(self) -> None:
        self.a, self.b, self.o = nn.Linear(8, 16), nn.Linear(5, 3), nn.Linear(11, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        out: Tensor = self.b(F.relu(x[:, :5])) + self.o(torch.tanh(x[:, 5:]))
        return out


class Sorted(SmallNet):
    def build(self) -> None:
        self.a, self.o = nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o(self.a(x).sort(1)[0])
        return out


class SortIndices(Sorted):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o(self.a(x).sort(1)[1].float())
        return out


class Cumulative(Sorted):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o(self.a(x).cumsum(1))
        return out


class Triangular(SmallNet):
    def build(self) -> None:
        self.a, self.w, self.o = nn.Linear(8, 16), nn.Parameter(torch.randn(16, 16)), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o(self.a(x) @ self.w.triu())
        return out


class DifferentFactors(SmallNet):
    """Neurons multiplied by constants that all differ."""

    factors = torch.arange(16.0)

    def build(self) -> None:
        self.a, self.o = nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o(self.a(x) * self.factors)
        return out


class TwoFactors(DifferentFactors):
    """Neurons multiplied by one constant for each half."""

    factors = torch.arange(16) // 8 + 1.0


class EqualFactors(DifferentFactors):
    """Neurons multiplied by equal constants."""

    factors = torch.full((16,), 2.0)


class TrainingBranch(SmallNet):
    """A branch that only training mode takes, and that depends on the order of its neurons."""

    def build(self) -> None:
        self.a, self.b, self.o = nn.Linear(8, 16), nn.Linear(8, 10), nn.Linear(26, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.a(x)), F.relu(self.b(x))
        if self.training:
            a = a + a.cumsum(1)
        out: Tensor = self.o(torch.cat([a, b], 1))
        return out


class RandomInTraining(SmallNet):
    """Noise, dropout and stochastic depth."""

    def build(self) -> None:
        self.a, self.b, self.o = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = F.dropout(F.rrelu(self.b(x), training=self.training), 0.5, self.training)
        if self.training:
            y = y * torch.empty(len(x), 1).bernoulli_(0.8) / 0.8 + torch.randn_like(y)
        out: Tensor = self.o(x + y)
        return out


class MovingAverage(SmallNet):
    """A buffer that training mode writes in place."""

    def build(self) -> None:
        self.a, self.o = nn.Linear(8, 16), nn.Linear(16, 2)
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        if self.training:
            self.mean.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        out: Tensor = self.o(x - self.mean)
        return out


class UnsavedAverage(MovingAverage):
    """The same with a buffer that is not in the state_dict, so that it cannot be permuted with the other tensors."""

    def build(self) -> None:
        super().build()
        self.register_buffer("mean", torch.zeros(16), persistent=False)


class DataDependentBranch(SmallNet):
    """The data decide between two branches; the second one ties two layers."""

    def build(self) -> None:
        self.a, self.b, self.o = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        if a.mean() > -1e9:
            out: Tensor = self.o(F.relu(a)) + self.o.weight.sum(1) * b.relu().sum(1, keepdim=True)
            return out
        both: Tensor = self.o(a * b)
        return both


class WrittenByStep(SmallNet):
    """States are written into an empty tensor, one time step after the other."""

    def build(self) -> None:
        self.cell, self.o = nn.GRUCell(8, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 12)
        states = x.new_empty(len(x), x.shape[1], 12)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
            states[:, step] = state
        out: Tensor = self.o(states)
        return out


class Codebook(SmallNet):
    """Vector quantisation with a straight-through estimate: codes are looked up, and their dimensions are neurons."""

    def build(self) -> None:
        self.i, self.codes, self.o = nn.Linear(8, 12), nn.Embedding(10, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.i(x)
        nearest = torch.cdist(x, self.codes.weight).argmin(-1)
        out: Tensor = self.o(x + (self.codes(nearest) - x).detach())
        return out


class DictOutput(SmallNet):
    def build(self) -> None:
        self.a, self.b, self.o, self.p = nn.Linear(8, 16), nn.Linear(16, 6), nn.Linear(6, 2), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> dict[str, Any]:
        x = F.relu(self.a(x))
        return {"a": self.o(F.relu(self.b(x))), "b": (self.p(x),)}
