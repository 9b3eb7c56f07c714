"""Exact groups of unusual networks; axes whose order matters stay fixed."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from tests.symmetry import odd_nets as odd
from tests.symmetry.function_check import CLOSE, difference
from torch import Tensor, nn
from torch.nn import functional as F

from onebasin.symmetry import SymmetryError, find_permutations

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
        (odd.SortIndices, VECTORS, []),
        (odd.Cumulative, VECTORS, []),
        (odd.Triangular, VECTORS, []),
        (odd.DifferentFactors, VECTORS, []),
        (odd.TwoFactors, VECTORS, [(8,), (8,)]),
        (odd.EqualFactors, VECTORS, [(16,)]),
        (odd.TrainingBranch, VECTORS, [(10,)]),
        (odd.RandomInTraining, VECTORS, [(16,)]),
        (odd.MovingAverage, VECTORS, [(16,)]),
        (odd.UnsavedAverage, VECTORS, []),
        (odd.DataDependentBranch, VECTORS, [(16,)]),
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
        (odd.SortIndices, "a.weight", "places along it are used (aten.sort.default in the model)"),
        (odd.Cumulative, "o.weight", "the order of its indices matters (aten.cumsum.default in the model)"),
        (odd.Triangular, "w", "the order of its indices matters (aten.triu.default in the model)"),
        (odd.DifferentFactors, "a.bias", "constants that differ along it (aten.mul.Tensor in the model)"),
        (odd.TrainingBranch, "a.weight", "the order of its indices matters (aten.cumsum.default in the model)"),
        (odd.UnsavedAverage, "a.weight", "a buffer that is not saved with the model (aten.add_.Tensor in the model)"),
    ],
)
def test_the_reason_is_given(net: type[nn.Module], tensor: str, reason: str) -> None:
    spec = find_permutations(net(), VECTORS)
    axis = 1 if tensor == "o.weight" else 0
    assert reason in spec.explain(tensor, axis)
    assert reason in str(spec)


class CutOff(nn.Module):
    """Position embeddings for longer sequences than the example's. The unused positions must not become a group."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(20, 8))
        self.o = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o((x.mean(-1, keepdim=True) + self.positions[: x.shape[1]]).mean(1))
        return out


def test_positions_beyond_the_example_are_fixed() -> None:
    spec = find_permutations(CutOff(), SEQUENCES)
    assert spec.sizes == {"positions": 8}


def test_one_time_step_leaves_the_recurrent_weights_fixed() -> None:
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


def test_a_group_nested_in_a_fixed_index_set_is_permuted_by_its_indices() -> None:
    class GroupedLinear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.i, self.w, self.o = nn.Linear(5, 6), nn.Parameter(torch.randn(2, 3, 2)), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.einsum("bgi,gio->bgo", self.i(x).view(-1, 2, 3), self.w) * torch.tensor([[1.0], [2.0]])
            out: Tensor = self.o(
                x.mT.flatten(1)
            )  # [outputs of w, blocks]: blocks are fixed, outputs are nested in them
            return out

    model, inputs = GroupedLinear(), torch.randn(4, 5)
    spec = find_permutations(model, inputs)
    assert sorted(spec.shape(group) for group in spec.groups) == [(2, 2), (2, 3)]
    assert max(difference(model, inputs, spec, seed) for seed in range(8)) < 1e-10


def test_paddings_with_other_neurons_between_them_are_separate_groups() -> None:
    class PaddedRows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.i, self.o = nn.Linear(5, 8), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            rows = F.pad(self.i(x).view(-1, 2, 4).softmax(1).flatten(1), (2, 2)).view(-1, 3, 4)
            out: Tensor = self.o((rows @ rows.mT).pow(2).sum(2))
            return out

    model, inputs = PaddedRows(), torch.randn(4, 5)
    spec = find_permutations(model, inputs)
    assert sorted(spec.shape(group) for group in spec.groups) == [(2,), (2,)]
    assert max(difference(model, inputs, spec, seed) for seed in range(8)) < 1e-10


def test_rows_that_are_unbound_and_stacked_again() -> None:
    class Restacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.i, self.o = nn.Linear(5, 12), nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            one, two = self.i(x).view(-1, 4, 3).flip(2).flatten(1).view(-1, 2, 6).unbind(1)
            out: Tensor = self.o(torch.stack([one, two.tanh()], 1).flatten(1))
            return out

    model, inputs = Restacked(), torch.randn(4, 5)
    spec = find_permutations(model, inputs)
    assert max([0.0, *(difference(model, inputs, spec, seed) for seed in range(8))]) < 1e-10


def test_parameters_that_share_memory() -> None:
    transposed = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 8))
    transposed[2].weight.data = transposed[0].weight.data.t()
    spec = find_permutations(transposed, VECTORS)
    assert spec.sizes == {"0": 6}
    before = transposed(VECTORS)
    transposed.load_state_dict(spec.apply(transposed.state_dict(), spec.random(0)))
    torch.testing.assert_close(transposed(VECTORS), before)

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole, self.a, self.o = nn.Parameter(torch.randn(6, 16)), nn.Linear(8, 6), nn.Linear(6, 2)
            self.a.weight = nn.Parameter(self.whole.data[:, :8])

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.o(F.relu(self.a(x)) + x.repeat(1, 2) @ self.whole.T)
            return out

    spec = find_permutations(Part(), VECTORS)
    assert spec.sizes == {}
    assert "shares memory with another tensor" in str(spec)


def test_inputs_in_dataclasses_and_named_tuples() -> None:
    @dataclass
    class Batch:
        x: Tensor
        y: Tensor

    class Pair(NamedTuple):
        x: Tensor
        y: Tensor

    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.o = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(6, 2)

        def forward(self, batch: Batch) -> Tensor:
            out: Tensor = self.o(F.relu(self.a(batch.x) + self.b(batch.y)))
            return out

    for kind in (Batch, Pair):  # inputs that are all 1 must not become interchangeable
        assert find_permutations(Reads(), (kind(torch.ones(3, 8), VECTORS),)).sizes == {"a": 6}


def test_pooling_along_some_positions_and_empty_parts() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.o = nn.Linear(8, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = F.avg_pool2d(self.a(x).unsqueeze(1), (2, 1), ceil_mode=True)
            x = F.adaptive_avg_pool2d(F.pad(x, (0, 0, 1, 1), mode="replicate"), (1, 6))[:, 0, 0]
            out: Tensor = self.o(torch.cat([x[:, :6], x[:, 6:].tanh()], 1))
            return out

    spec = find_permutations(Windows(), SEQUENCES)
    assert spec.sizes == {"a": 6}
    assert difference(Windows(), SEQUENCES, spec, 0) < 1e-10


@pytest.mark.parametrize(
    ("model", "inputs", "problem"),
    [
        (nn.Linear(8, 2), torch.eye(8).to_sparse(), "layout torch.sparse_coo; expected dense"),
        (torch.jit.ScriptModule(), VECTORS, "ScriptModule; expected the Python"),
    ],
)
def test_models_and_inputs_that_cannot_be_traced_are_refused(model: nn.Module, inputs: Tensor, problem: str) -> None:
    with pytest.raises(SymmetryError, match=problem):
        find_permutations(model, inputs)
