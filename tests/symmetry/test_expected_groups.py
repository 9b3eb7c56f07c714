"""Common networks: every group with its size, and the same function under permutations of all groups."""

from typing import Any

import pytest
import torch
from tests.symmetry.convolutional_nets import (
    VGG16,
    DenseNet,
    Grouped,
    LeNet,
    MobileNet,
    ResNet20,
    Separable,
    ShuffleNet,
    UNet,
    vgg,
)
from tests.symmetry.function_check import CLOSE, difference
from tests.symmetry.sequence_nets import GPT, Encoder, Recurrent, ViT
from torch import nn

from onebasin.symmetry import PermutationSpec, check_permutations, find_permutations

PICTURE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randint(9, (2, 6), generator=torch.Generator().manual_seed(2))


def checked_spec(model: nn.Module, inputs: Any, seed: int = 0) -> PermutationSpec:
    """The specification of a model, after a check that the trace alone has found it and that it keeps the function."""
    spec = find_permutations(model, inputs)
    assert not spec.notes
    assert "rule failed" not in str(spec)
    assert difference(model, inputs, spec, seed) < CLOSE
    return spec


def shapes(spec: PermutationSpec) -> dict[str, tuple[int, ...]]:
    """The shape of the permutations of each group."""
    return {name: spec.shape(name) for name in spec.groups}


def test_mlp() -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    spec = checked_spec(model, torch.randn(3, 5))
    assert spec.sizes == {"0": 7, "2": 4}
    assert spec.coverage == pytest.approx(1 - 2 / (42 + 32 + 8 + 10))
    assert {(each.tensor, each.axis) for each in spec.occurrences("2")} == {
        ("2.weight", 0),
        ("2.bias", 0),
        ("3.weight", 0),
        ("3.bias", 0),
        ("3.running_mean", 0),
        ("3.running_var", 0),
        ("5.weight", 1),
    }


def test_lenet_with_view() -> None:
    spec = checked_spec(LeNet(), torch.randn(2, 1, 28, 28))
    assert spec.sizes == {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84}
    assert spec.explain("fc1.weight", 1).startswith("fc1.weight[1] = conv2 x 5 x 5; permuted by conv2; fixed: ")


def test_vgg16() -> None:
    spec = checked_spec(vgg(VGG16), torch.randn(1, 3, 32, 32))
    assert list(spec.sizes.values()) == [width for width in VGG16 if isinstance(width, int)]


STREAMS = {"A": [16, 16, 32], "A, both sides": [16, 16, 32], "B": [16, 32, 64]}


@pytest.mark.parametrize("norm", ["batch", "layer", "channels"])
@pytest.mark.parametrize("shortcut", STREAMS)
def test_resnet20(shortcut: str, norm: str) -> None:
    spec = checked_spec(ResNet20(shortcut, norm), PICTURE)
    inner = [16] * 3 + [32] * 3 + [64] * 3
    assert sorted(spec.sizes.values()) == sorted([*STREAMS[shortcut], *inner])
    assert spec.coverage > 0.999


def test_zero_padding_on_both_sides_is_one_group() -> None:
    spec = checked_spec(ResNet20("A, both sides", "batch"), PICTURE)
    assert spec.sizes["blocks.3.conv2"] == 16
    assert spec.explain("fc.weight", 1).split(";")[0] == (
        "fc.weight[1] = blocks.6.conv2 + blocks.3.conv2 + conv + blocks.3.conv2[8:16] + blocks.6.conv2[16:32]"
    )


def test_resnet20_with_groups() -> None:
    """GroupNorm(4): its four blocks are permuted, and the channels in each; with shortcut A the stages are nested."""
    spec = checked_spec(ResNet20("B", "group"), PICTURE)
    inside = [4] * 3 + [8] * 3 + [16] * 3
    expected = [(4,), (4, 4), (4,), (4, 8), (4,), (4, 16)]
    expected += [shape for size in inside for shape in ((4,), (4, size))]
    assert sorted(shapes(spec).values()) == sorted(expected)
    spec = checked_spec(ResNet20("A", "group"), PICTURE)
    assert shapes(spec)["conv"] == (2,)
    assert {spec.shape(name) for name in spec.groups if spec.groups[name].within[:1] == ("conv",)} == {
        (2, 2),
        (2, 2, 4),
    }
    spec = checked_spec(ResNet20("A, both sides", "group"), PICTURE)
    assert len(spec.groups) == 26
    assert spec.coverage > 0.999


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        (Separable(), {"stem": (8,), "block.3": (16,), "depthwise/inner": (16, 3)}),
        (MobileNet(), {"stem": (8,), "block.expand": (32,), "block.squeeze": (8,)}),
        (
            Grouped(),
            {
                "conv1": (4,),
                "conv1/inner": (4, 2),
                "conv1/inner:2": (4, 2, 4),
                "conv2/inner": (4, 2, 8),
                "conv3": (16,),
            },
        ),
        (
            DenseNet(),
            {"stem": (16,), "layers.0.2": (12,), "layers.1.2": (12,), "layers.2.2": (12,), "transition.2": (20,)},
        ),
        (
            UNet(),
            {
                "down1.0": (8,),
                "down2.0": (12,),
                "bottom.0": (24,),
                "up2": (10,),
                "up1": (2,),
                "up1/inner": (2, 3),
                "join2.0/inner": (2, 7),
                "join1.0": (9,),
            },
        ),
        (
            ShuffleNet(),
            {
                "stem": (2,),
                "stem/inner": (2, 8),
                "conv1": (2,),
                "conv1/inner": (2, 2, 8),
                "conv2/inner": (2, 8),
            },
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_convolutional_nets(model: nn.Module, sizes: dict[str, tuple[int, ...]]) -> None:
    spec = checked_spec(model, PICTURE)
    assert sorted(shapes(spec).values()) == sorted(sizes.values()), shapes(spec)


def test_dense_net_with_groups_across_its_parts() -> None:
    """GroupNorm(4) splits the 16 + 12 of 28 channels into 7 + 7 + 2 | 5 + 7; later norms split them again."""
    spec = checked_spec(DenseNet("group"), PICTURE)
    assert spec.coverage > 0.98


ENCODER_LAYER = [(4,), (4, 4), (4, 4), (32,)]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer_encoder(batch_first: bool, norm_first: bool) -> None:
    spec = checked_spec(Encoder(batch_first, norm_first), TOKENS)
    assert sorted(shapes(spec).values()) == sorted([(16,), *ENCODER_LAYER, *ENCODER_LAYER])
    assert "cut off before it had any effect" in spec.explain("positions", 0)


def test_gpt_with_fused_attention_and_tied_head() -> None:
    spec = checked_spec(GPT(), TOKENS)
    assert shapes(spec) == {
        "tokens": (24,),
        "attention.qkv": (4,),
        "attention.qkv/inner": (4, 6),
        "attention.qkv/inner:2": (4, 6),
        "fc": (96,),
    }
    heads, keys, values = "attention.qkv", "attention.qkv/inner", "attention.qkv/inner:2"
    assert spec.explain("attention.qkv.weight", 0).split(";")[0] == (
        f"attention.qkv.weight[0] = {heads} x {keys} + {heads} x {keys} + {heads} x {values}"
    )
    assert spec.tensors["head.weight"].same_as == "tokens.weight"


def test_vit_with_class_token() -> None:
    spec = checked_spec(ViT(), PICTURE)
    assert sorted(shapes(spec).values()) == sorted([(24,), (4,), (4, 6), (4, 6), (48,)])


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("last", [False, True])
def test_recurrent(kind: type[nn.RNNBase], last: bool) -> None:
    spec = checked_spec(Recurrent(kind, last=last), TOKENS)
    assert spec.sizes == {"embedding": 8, "rnn.weight_ih_l0": 12, "rnn.weight_ih_l1": 12}


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_bidirectional(kind: type[nn.RNNBase]) -> None:
    spec = checked_spec(Recurrent(kind, bidirectional=True), TOKENS)
    assert list(spec.sizes.values()) == [8, 12, 12, 12, 12]


def test_the_numeric_check_finds_only_rounding_errors() -> None:
    model = Grouped()
    spec = find_permutations(model, PICTURE)
    assert max(check_permutations(model, PICTURE, spec).values()) < CLOSE
