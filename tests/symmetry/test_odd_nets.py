"""Exact groups of networks that do unusual things; what depends on the order of neurons stays fixed."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from onebasin.symmetry import find_permutations

from . import odd_nets as odd
from .preserved import CLOSE, difference

DRAWS = torch.Generator().manual_seed(3)
VECTORS = torch.randn(3, 8, generator=DRAWS)
SEQUENCES = torch.randn(2, 6, 8, generator=DRAWS)
PICTURES = torch.randn(2, 3, 8, 8, generator=DRAWS)

Shapes = list[tuple[int, ...]]


@pytest.mark.parametrize(
    ("net", "inputs", "expected"),
    [
        (odd.TiedAutoencoder, VECTORS, [(16,)]),
        (odd.GatedUnits, VECTORS, [(12,), (10,)]),
        (odd.Maxout, VECTORS, [(12,), (12, 2)]),
        (odd.SpectralNorm, VECTORS, [(16,)]),
        (odd.WeightNorm, VECTORS, [(16,), (10,)]),
        (odd.WeightStandardisation, PICTURES, [(8,), (16,)]),
        (odd.TwoInputs, (VECTORS, VECTORS.flip(1)), [(16,), (12,), (6,)]),
        (odd.TwoInputs, {"y": VECTORS.flip(1), "x": VECTORS}, [(16,), (12,), (6,)]),
        (odd.TokenMixer, SEQUENCES, [(10,), (5,), (7,)]),
        (odd.EinsumAttention, SEQUENCES, [(4,), (4, 3), (4, 5)]),
        (odd.TalkingHeads, SEQUENCES, [(4,), (4, 4), (4,), (4, 4)]),
        (odd.GroupedQueries, SEQUENCES, [(2,), (2, 2), (2, 3), (2, 3)]),
        (odd.Rotary, SEQUENCES, [(2,), (2, 3)]),
        (odd.Ensemble, VECTORS, [(4, 6)]),
        (odd.EnsembleMean, VECTORS, [(4,), (4, 6)]),
        (odd.Slices, VECTORS, [(5,), (11,)]),
        (odd.Sorted, VECTORS, [(16,)]),
        (odd.Places, VECTORS, []),
        (odd.Cumulative, VECTORS, []),
        (odd.Triangular, VECTORS, []),
        (odd.Ramp, VECTORS, []),
        (odd.Step, VECTORS, [(8,), (8,)]),
        (odd.Flat, VECTORS, [(16,)]),
        (odd.TrainOnly, VECTORS, [(10,)]),
        (odd.RandomInTraining, VECTORS, [(16,)]),
        (odd.MovingAverage, VECTORS, [(16,)]),
        (odd.UnsavedAverage, VECTORS, []),
        (odd.TwoWays, VECTORS, [(16,)]),
        (odd.WrittenByStep, SEQUENCES, [(12,)]),
        (odd.Codebook, SEQUENCES, [(12,)]),
        (odd.DictOutput, VECTORS, [(16,), (6,)]),
    ],
)
def test_groups(net: type[nn.Module], inputs: Any, expected: Shapes) -> None:
    torch.manual_seed(0)
    model = net()
    spec = find_permutations(model, inputs)
    assert not spec.notes
    assert sorted(spec.shape(name) for name in spec.groups) == sorted(expected)
    if expected:
        assert difference(model, inputs, spec) < CLOSE


@pytest.mark.parametrize(
    ("net", "tensor", "reason"),
    [
        (odd.Places, "a.weight", "places along it are used (aten.sort.default in the model)"),
        (odd.Cumulative, "o.weight", "the order of its indices matters (aten.cumsum.default in the model)"),
        (odd.Triangular, "w", "the order of its indices matters (aten.triu.default in the model)"),
        (odd.Ramp, "a.bias", "constants that differ along it (aten.mul.Tensor in the model)"),
        (odd.TrainOnly, "a.weight", "the order of its indices matters (aten.cumsum.default in the model)"),
        (odd.UnsavedAverage, "a.weight", "a buffer that is not saved with the model (aten.add_.Tensor in the model)"),
    ],
)
def test_the_reason_is_given(net: type[nn.Module], tensor: str, reason: str) -> None:
    spec = find_permutations(net(), VECTORS)
    axis = 1 if tensor == "o.weight" else 0
    assert reason in spec.explain(tensor, axis)
    assert reason in str(spec)


class CutOff(nn.Module):
    """Positions for longer texts than the example: what was cut off is not free."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(20, 8))
        self.o = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o((x.mean(-1, keepdim=True) + self.positions[: x.shape[1]]).mean(1))
        return out


def test_what_was_cut_off_is_fixed() -> None:
    spec = find_permutations(CutOff(), SEQUENCES)
    assert spec.sizes == {"positions": 8}


def test_one_time_step_says_nothing_about_the_recurrent_weights() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.o = nn.GRU(8, 12, batch_first=True), nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.o(self.rnn(x)[0])
            return out

    assert find_permutations(Last(), SEQUENCES).sizes == {"rnn.weight_ih_l0": 12}
    assert find_permutations(Last(), SEQUENCES[:, :1]).sizes == {}
    assert find_permutations(Last(), [SEQUENCES[:, :1], SEQUENCES]).sizes == {"rnn.weight_ih_l0": 12}


def test_outputs_can_be_chosen() -> None:
    model = odd.DictOutput()
    assert find_permutations(model, VECTORS, outputs=lambda out: out["a"]).sizes == {"a": 16, "b": 6}
    everything = nn.Sequential(nn.Linear(8, 5), nn.ReLU())
    assert find_permutations(everything, VECTORS).sizes == {}
    assert find_permutations(everything, VECTORS, outputs=lambda out: out.sum(1)).sizes == {"0": 5}


def test_shared_and_tied_layers() -> None:
    shared = nn.Linear(6, 6)
    spec = find_permutations(nn.Sequential(nn.Linear(8, 6), shared, nn.ReLU(), shared, nn.Linear(6, 2)), VECTORS)
    assert spec.sizes == {"0": 6}
    assert spec.tensors["3.weight"].same_as == "1.weight"
    assert spec.explain("3.weight", 1) == "3.weight[1] = 0; permuted by 0"


def test_a_frozen_layer_is_permuted_too() -> None:
    model = nn.Sequential(nn.Linear(8, 6).requires_grad_(False), nn.ReLU(), nn.Linear(6, 2))
    assert find_permutations(model, VECTORS).sizes == {"0": 6}


def test_half_precision() -> None:
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)).bfloat16()
    assert find_permutations(model, VECTORS.bfloat16()).sizes == {"0": 6}
