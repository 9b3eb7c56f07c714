"""Patches of convolutions, sampled rows, and the selection of fitted layers."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from onebasin.alignment.layers import Rows, channel_dim, fitted_layers, is_linear, rows_of, unfold


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_unfolded_patches_times_the_kernel_are_the_convolution(data: st.DataObject) -> None:
    spatial = data.draw(st.integers(1, 3))
    groups = data.draw(st.integers(1, 3))
    channels, outputs = groups * data.draw(st.integers(1, 2)), groups * data.draw(st.integers(1, 2))
    padding = data.draw(st.sampled_from(["valid", "same", "numbers"]))
    sizes = st.sampled_from([1, 3]) if padding == "same" else st.integers(1, 3)  # PyTorch warns about even kernels
    kernel = tuple(data.draw(sizes) for _ in range(spatial))
    dilation = tuple(data.draw(st.integers(1, 2)) for _ in range(spatial))
    stride: tuple[int, ...] = tuple(data.draw(st.integers(1, 2)) for _ in range(spatial))
    if padding == "same":
        stride = (1,) * spatial
    build = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[spatial - 1]
    layer = build(
        channels,
        outputs,
        kernel,
        stride=stride,
        padding=padding if padding != "numbers" else tuple(data.draw(st.integers(0, 2)) for _ in range(spatial)),
        dilation=dilation,
        groups=groups,
        bias=False,
    ).double()
    inputs = torch.randn(2, channels, *[7] * spatial, dtype=torch.float64)
    expected = layer(inputs)
    rows = unfold(layer, inputs)
    weight = layer.weight.reshape(groups, outputs // groups, -1)
    found = torch.einsum("rgi,goi->rgo", rows, weight).reshape(-1, outputs)
    torch.testing.assert_close(found, rows_of(expected, 1))


def test_sampled_rows_come_in_batches() -> None:
    layer = nn.Conv2d(2, 3, 3)
    inputs = torch.randn(10, 2, 6, 6)
    output = layer(inputs)
    rows = Rows.sample(output, 1, 40, torch.Generator().manual_seed(0))
    assert len(rows.indices) == 40
    assert rows.positions == 16
    everything = unfold(layer, inputs)
    parts = list(rows.patches(layer, inputs))
    torch.testing.assert_close(torch.cat([part for _, part in parts]), everything[rows.indices])
    assert torch.equal(rows.select(output, 1), rows_of(output, 1)[rows.indices])


def test_channels_of_outputs() -> None:
    assert channel_dim(nn.Linear(2, 3), torch.zeros(4, 5, 3)) == 2
    assert channel_dim(nn.Conv2d(1, 3, 1), torch.zeros(4, 3, 5, 5)) == 1
    assert channel_dim(nn.Conv1d(1, 3, 1), torch.zeros(3, 5)) == 0
    assert channel_dim(nn.BatchNorm1d(3), torch.zeros(4, 3)) == 1
    assert channel_dim(nn.GroupNorm(1, 3), torch.zeros(4, 3, 5)) == 1
    assert channel_dim(nn.LayerNorm(3), torch.zeros(4, 5, 3)) == 2


def test_which_layers_are_fitted() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(7, 4)
            self.one = nn.Linear(4, 4)
            self.norm = nn.LayerNorm(4)
            self.plain = nn.LayerNorm(4, elementwise_affine=False)
            self.over_two = nn.LayerNorm([3, 4])
            self.up = nn.ConvTranspose1d(4, 4, 2)
            self.circular = nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular")
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.embedding.weight

    found = fitted_layers(Net())
    assert list(found) == ["one", "norm"]
    assert [is_linear(layer) for layer in found.values()] == [True, False]
