from copy import deepcopy

import pytest
import torch
from torch import nn

from onebasin.learning.parametrization import fold
from onebasin.learning.parametrizations.low_rank import HadamardOfKernels, HadamardOfMatrices, LowRank, rank_of


@pytest.mark.parametrize(
    ("shape", "gamma", "rank"),
    [
        ((120, 400), 0.0, 11),  # the root of 120
        ((120, 400), 1.0, 46),  # 2 * 46 * 520 = 47,840 < 48,000
        ((120, 400), 0.5, 28),
        ((16, 6, 5, 5), 0.0, 3),
        ((16, 6, 5, 5), 1.0, 6),  # 2 * (6 * 22 + 36 * 25) = 2,064 < 2,400
        ((3, 2), 0.0, None),  # 2 * 2 * 5 = 20 > 6
    ],
)
def test_ranks_lie_between_full_rank_and_what_saves_parameters(
    shape: tuple[int, ...], gamma: float, rank: int | None
) -> None:
    assert rank_of(shape, gamma) == rank


def test_products_are_those_of_the_propositions() -> None:
    x1, y1 = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])
    x2, y2 = torch.tensor([[1.0], [0.5]]), torch.tensor([[2.0], [1.0]])
    matrix = HadamardOfMatrices(1)(x1, y1, x2, y2)
    assert matrix.tolist() == [[6.0, 4.0], [6.0, 4.0]]  # [[3, 4], [6, 8]] * [[2, 1], [1, 0.5]]
    core = torch.tensor([[[2.0, -1.0]]])
    kernel = HadamardOfKernels(1)(core, x1, y1, core, x2, y2)
    assert torch.equal(kernel, torch.stack([4 * matrix, matrix], dim=-1))


def test_weights_begin_with_the_deviation_of_those_they_replace() -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(64, 128, 3), nn.Linear(400, 300))
    factored = LowRank(gamma=0.3).apply(deepcopy(dense), 1, 0)
    again = LowRank(gamma=0.3).apply(deepcopy(dense), 1, 0)
    assert all(torch.equal(a, b) for a, b in zip(factored.parameters(), again.parameters(), strict=True))
    for before, after in zip(dense, factored.children(), strict=True):
        assert after.weight.detach().std().item() == pytest.approx(before.weight.detach().std().item(), rel=1e-5)


def test_folding_gives_the_same_function_in_the_models_own_names() -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(4, 16, 3), nn.Flatten(), nn.Linear(64, 30))
    factored = LowRank().apply(deepcopy(dense), 1, 0)
    inputs = torch.randn(5, 4, 4, 4)
    assert sum(p.numel() for p in factored.parameters()) < sum(p.numel() for p in dense.parameters())
    expected = factored(inputs)
    folded = fold(factored)
    assert torch.equal(folded(inputs), expected)
    assert folded.state_dict().keys() == dense.state_dict().keys()
