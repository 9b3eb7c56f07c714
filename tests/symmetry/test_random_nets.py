"""Random compositions of layers keep their function, and the trace alone finds the groups: the check drops none."""

from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.symmetry.function_check import CLOSE, difference
from torch import Tensor, nn
from torch.nn import functional as F

from onebasin.symmetry import find_permutations

Step = tuple[str, int]


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.inner(x)
        return out


class ConcatenatedWithInput(nn.Module):
    """The input, concatenated with the output of a layer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.inner(x)], 1)


class Gated(nn.Module):
    """Channels multiplied by gates that are computed from the channel means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, 3)
        self.excite = nn.Linear(3, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.flatten(2).mean(2) if x.ndim > 2 else x))))
        return x * gate.reshape(*gate.shape, *[1] * (x.ndim - 2))


class Halves(nn.Module):
    """Two halves of the channels, with different nonlinearities, in the reverse order."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        return torch.cat([torch.tanh(second), F.relu(first)], 1)


class Shuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class Pad(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.pads = [0, 0, 0, 0, before, after]

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.pads if x.ndim == 4 else self.pads[4:])


def vector_layer(kind: str, size: int, channels: int) -> tuple[nn.Module, int]:
    """A layer for inputs [n, channels], and its number of output channels."""
    width = 4 * size
    layers: dict[str, Callable[[], tuple[nn.Module, int]]] = {
        "dense": lambda: (nn.Linear(channels, width), width),
        "batch norm": lambda: (nn.BatchNorm1d(channels), channels),
        "layer norm": lambda: (nn.LayerNorm(channels), channels),
        "group norm": lambda: (nn.GroupNorm(size if channels % size == 0 else 1, channels), channels),
        "relu": lambda: (nn.ReLU(), channels),
        "softmax": lambda: (nn.Softmax(1), channels),
        "residual": lambda: (
            Residual(nn.Sequential(nn.Linear(channels, width), nn.GELU(), nn.Linear(width, channels))),
            channels,
        ),
        "concatenated": lambda: (
            ConcatenatedWithInput(nn.Sequential(nn.Linear(channels, width), nn.Tanh())),
            channels + width,
        ),
        "gated": lambda: (Gated(channels), channels),
        "halves": lambda: (Halves(), channels) if channels % 2 == 0 else (nn.Identity(), channels),
        "glu": lambda: (nn.GLU(1), channels // 2) if channels % 4 == 0 else (nn.Identity(), channels),
        "shuffle": lambda: (Shuffle(size if channels % size == 0 else 1), channels),
        "pad": lambda: (Pad(size, 2), channels + size + 2),
        "dropout": lambda: (nn.Dropout(0.3), channels),
        "prelu": lambda: (nn.PReLU(channels), channels),
    }
    return layers[kind]()


def image_layer(kind: str, size: int, channels: int) -> tuple[nn.Module, int]:
    """A layer for inputs [n, channels, height, width], and its number of output channels."""
    width = 4 * size
    groups = next(g for g in (size, 2, 1) if channels % g == 0)
    wide = groups * size
    layers: dict[str, Callable[[], tuple[nn.Module, int]]] = {
        "dense": lambda: (nn.Conv2d(channels, width, 3, padding=1), width),
        "grouped": lambda: (nn.Conv2d(channels, wide, 3, padding=1, groups=groups), wide),
        "depthwise": lambda: (nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=channels), 2 * channels),
        "transposed": lambda: (nn.ConvTranspose2d(channels, wide, 3, padding=1, groups=groups), wide),
        "pointwise": lambda: (nn.Conv2d(channels, width, 1), width),
        "batch norm": lambda: (nn.BatchNorm2d(channels), channels),
        "layer norm": lambda: (nn.GroupNorm(1, channels), channels),
        "group norm": lambda: (nn.GroupNorm(groups, channels), channels),
        "instance norm": lambda: (nn.InstanceNorm2d(channels, affine=True), channels),
        "relu": lambda: (nn.ReLU(), channels),
        "pool": lambda: (nn.MaxPool2d(2, 1, 1), channels),
        "residual": lambda: (
            Residual(nn.Sequential(nn.Conv2d(channels, width, 1), nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1))),
            channels,
        ),
        "concatenated": lambda: (ConcatenatedWithInput(nn.Conv2d(channels, width, 1)), channels + width),
        "gated": lambda: (Gated(channels), channels),
        "halves": lambda: (Halves(), channels) if channels % 2 == 0 else (nn.Identity(), channels),
        "shuffle": lambda: (Shuffle(groups), channels),
        "pad": lambda: (Pad(size, size), channels + 2 * size),
    }
    return layers[kind]()


VECTOR_KINDS = (
    "dense", "batch norm", "layer norm", "group norm", "relu", "softmax", "residual", "concatenated", "gated", "halves",
    "glu", "shuffle", "pad", "dropout", "prelu",
)  # fmt: skip
IMAGE_KINDS = (
    "dense", "grouped", "depthwise", "transposed", "pointwise", "batch norm", "layer norm", "group norm",
    "instance norm", "relu", "pool", "residual", "concatenated", "gated", "halves", "shuffle", "pad",
)  # fmt: skip


def recipes(kinds: tuple[str, ...], longest: int) -> st.SearchStrategy[list[Step]]:
    """Lists of layer kinds with sizes."""
    return st.lists(st.tuples(st.sampled_from(kinds), st.integers(2, 4)), min_size=1, max_size=longest)


def build(images: list[Step], vectors: list[Step]) -> tuple[nn.Module, Tensor]:
    """A network of these layers, and an input for it."""
    torch.manual_seed(0)
    channels = 3
    layers: list[nn.Module] = []
    if images:
        for kind, size in images:
            if channels > 60:  # keeps the network small
                break
            layer, channels = image_layer(kind, size, channels)
            layers.append(layer)
        layers.append(nn.Flatten())
        side = nn.Sequential(*layers).eval()(torch.randn(2, 3, 4, 4)).shape[1]
        channels = side
        layers.append(nn.Linear(channels, 8))
        channels = 8
    for kind, size in vectors:
        layer, channels = vector_layer(kind, size, channels)
        layers.append(layer)
    layers.append(nn.Linear(channels, 2))
    return nn.Sequential(*layers), torch.randn(2, 3, 4, 4) if images else torch.randn(3, 3)


def assert_function_is_kept(net: nn.Module, inputs: Tensor) -> None:
    """Check the groups of a network, also after a round trip through JSON."""
    spec = find_permutations(net, inputs)
    assert not spec.notes
    assert "rule failed" not in str(spec)
    assert "not understood" not in str(spec)
    assert difference(net, inputs, spec) < CLOSE
    assert difference(net, inputs, type(spec).from_json(spec.to_json()), seed=1) < CLOSE


@given(vectors=recipes(VECTOR_KINDS, 8))
@settings(max_examples=40)
def test_vector_nets(vectors: list[Step]) -> None:
    assert_function_is_kept(*build([], [("dense", 3), *vectors]))


@given(images=recipes(IMAGE_KINDS, 5), vectors=recipes(VECTOR_KINDS, 2))
@settings(max_examples=40)
def test_image_nets(images: list[Step], vectors: list[Step]) -> None:
    assert_function_is_kept(*build([("dense", 2), *images], vectors))
