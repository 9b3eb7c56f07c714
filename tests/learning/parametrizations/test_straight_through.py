import torch

from onebasin.learning.masks.straight_through import apply_mask


def test_what_is_kept_is_exact_and_the_gradient_passes_by_the_choice() -> None:
    weights = torch.tensor([[0.1, -0.2], [0.3, 0.4]])
    scores = torch.tensor([[1e8, -1.0], [0.3, 2.0]], requires_grad=True)
    kept = apply_mask(weights, scores > 0.5, scores)
    assert torch.equal(kept, torch.tensor([[0.1, 0.0], [0.0, 0.4]]))
    kept.backward(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert torch.equal(scores.grad, weights * torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


def test_a_score_of_a_whole_row_has_the_gradient_of_all_its_weights() -> None:
    weights = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    scores = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    apply_mask(weights, scores > 0, scores).sum().backward()
    assert scores.grad.tolist() == [[3.0], [7.0]]


def test_the_layout_of_the_weights_is_kept_for_axes_of_length_one_too() -> None:
    weights = torch.randn(6, 1, 5, 5).to(memory_format=torch.channels_last).as_strided((6, 1, 5, 5), (25, 1, 5, 1))
    scores = torch.randn(6, 1, 5, 5, requires_grad=True)
    assert apply_mask(weights, scores > 0, scores).stride() == (25, 1, 5, 1)
