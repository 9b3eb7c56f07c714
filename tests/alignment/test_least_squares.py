from collections.abc import Callable

import pytest
import torch
from tests.alignment.nets import convolutional, noisy, perceptron, seeded
from torch import Tensor, nn

import onebasin as ob
from onebasin.alignment import AlignmentError, average
from onebasin.alignment.forward_hooks import forward
from onebasin.alignment.least_squares import least_squares

DRAWS = torch.Generator().manual_seed(2)


def linear(weight: list[list[float]]) -> tuple[nn.Module, dict[str, Tensor]]:
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    return model, {"0.weight": torch.tensor(weight)}


def test_ridge_by_hand() -> None:
    """One layer, one input direction: w = w0 + x t / (x.x + r mean(x^2)), with the residual t of the target."""
    model, one = linear([[1.0, 0.0]])
    _, other = linear([[3.0, 4.0]])
    inputs = torch.tensor([[2.0, 0.0]])
    teach = torch.tensor([[10.0]])
    merged = least_squares(model, [one, other], inputs, ridge=0.5, teach=teach)
    # average [2, 2]; residual 10 - 4 = 6; Gram matrix [[4, 0], [0, 0]]; penalty 0.5 * 2 = 1; step 2 * 6 / (4 + 1)
    torch.testing.assert_close(merged["0.weight"], torch.tensor([[2.0 + 12 / 5, 2.0]]))


def test_linear_models_merge_into_their_average() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    states = [seeded(lambda: nn.Sequential(nn.Linear(4, 3)), seed).state_dict() for seed in range(3)]
    merged = least_squares(model, states, torch.randn(20, 4, generator=DRAWS), [1, 2, 3])
    expected = average(states, [1, 2, 3])
    for name in expected:
        torch.testing.assert_close(merged[name], expected[name], rtol=1e-4, atol=1e-5)


def normalised_net() -> nn.Module:
    """A network with norms and a grouped convolution."""
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1, groups=2, bias=False),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(8),
        nn.Linear(8, 3),
    )


class Recurrent(nn.Module):
    """Two recurrent layers with an output at the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.fc = nn.GRU(4, 6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.as_tensor(self.fc(self.gru(inputs)[0][:, -1]))


CASES: list[tuple[Callable[[], nn.Module], Tensor]] = [
    (lambda: perceptron(6, 20, 20, 4), torch.randn(200, 6, generator=DRAWS)),
    (lambda: perceptron(6, 20, 20, 4, norm=True), torch.randn(200, 6, generator=DRAWS)),
    (convolutional, torch.randn(64, 1, 8, 8, generator=DRAWS)),
    (normalised_net, torch.randn(64, 2, 8, 8, generator=DRAWS)),
    (Recurrent, torch.randn(100, 9, 4, generator=DRAWS)),
]


@pytest.mark.parametrize(("build", "inputs"), CASES)
def test_equal_models_are_unchanged(build: Callable[[], nn.Module], inputs: Tensor) -> None:
    model = seeded(build, 0).eval()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    merged = least_squares(model, [state, state], inputs, anchor=1)
    torch.testing.assert_close(forward(model, merged, inputs), forward(model, state, inputs), rtol=1e-3, atol=1e-4)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("build", "inputs"), CASES)
@pytest.mark.parametrize("anchor", [None, 0])
def test_the_result_is_nearer_to_the_mean_output_than_the_average(
    build: Callable[[], nn.Module], inputs: Tensor, anchor: int | None
) -> None:
    model = seeded(build, 0)
    states = [noisy(seeded(build, 0).state_dict(), 0.8, seed) for seed in range(4)]
    for state in states:
        for name in state:
            if name.endswith("running_var"):
                state[name] = state[name].abs() + 0.1
    expected = torch.stack([forward(model, state, inputs) for state in states]).mean(0)

    def error(state: dict[str, Tensor]) -> float:
        return float((forward(model, state, inputs) - expected).square().mean())

    merged = least_squares(model, states, inputs, anchor=anchor)
    assert error(merged) < 0.5 * error(average(states))


def test_the_output_follows_the_given_targets() -> None:
    model = seeded(lambda: perceptron(6, 40, 3), 0)
    states = [seeded(lambda: perceptron(6, 40, 3), seed).state_dict() for seed in range(3)]
    inputs = torch.randn(100, 6, generator=DRAWS)
    teach = torch.stack([inputs[:, 0], inputs[:, 1] - 1, inputs[:, 2].abs()], 1)
    merged = least_squares(model, states, inputs, ridge=1e-4, teach=teach)
    found = forward(model, merged, inputs)
    assert float((found - teach).square().mean()) < 0.05 * float(teach.var())


def test_results_repeat_when_rows_are_sampled() -> None:
    build = convolutional
    states = [noisy(seeded(build, 0).state_dict(), 0.2, seed) for seed in range(2)]
    states = [{n: v.abs() if n.endswith("var") else v for n, v in state.items()} for state in states]
    inputs = torch.randn(700, 1, 8, 8, generator=DRAWS)  # 44,800 rows in the first layer
    first, again = (least_squares(build(), states, inputs, seed=1) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_agreement_weights_the_models() -> None:
    """A model whose neurons differ from the anchor's hardly counts; without an anchor it counts fully."""
    model = seeded(lambda: perceptron(5, 12, 2), 0)
    base = model.state_dict()
    stranger = seeded(lambda: perceptron(5, 12, 2), 7).state_dict()
    inputs = torch.randn(400, 5, generator=DRAWS)
    hidden = nn.Sequential(*list(model.children())[:2])

    def first_layer(state: dict[str, Tensor]) -> Tensor:
        hidden.load_state_dict({name: value for name, value in state.items() if name.startswith("1.")})
        out: Tensor = hidden(inputs).detach()
        return out

    merged = least_squares(model, [base, stranger], inputs, anchor=0)
    plain = least_squares(model, [base, stranger], inputs)
    expected = first_layer(base)
    assert (first_layer(merged) - expected).norm() < 0.4 * (first_layer(plain) - expected).norm()


def test_invalid_arguments_are_refused() -> None:
    model = perceptron(4, 5, 2)
    state = model.state_dict()
    inputs = torch.zeros(3, 4)
    with pytest.raises(AlignmentError, match="anchor: 2 of 2 models"):
        least_squares(model, [state, state], inputs, anchor=2)
    with pytest.raises(AlignmentError, match="ridge: 0; expected more than 0"):
        least_squares(model, [state, state], inputs, ridge=0)
    with pytest.raises(AlignmentError, match=r"teach: shape \[3, 3\] is not that of the model's output"):
        least_squares(model, [state, state], inputs, teach=torch.zeros(3, 3))
    with pytest.raises(AlignmentError, match="weights: \\[1\\]; expected 2 numbers"):
        least_squares(model, [state, state], inputs, [1])
    broken = {**state, "3.bias": torch.full((2,), torch.inf)}
    with pytest.raises(AlignmentError, match=r"model 2 of 2: 3\.bias has weights that are NaN or infinite"):
        least_squares(model, [state, broken], inputs)
    with pytest.raises(AlignmentError, match="the model does not take the inputs"):
        least_squares(model, [state, state], torch.zeros(3, 9))
    softened = nn.Sequential(perceptron(4, 5, 2), nn.Softmax(-1))
    with pytest.raises(AlignmentError, match="cannot be taught"):
        least_squares(softened, [softened.state_dict()] * 2, inputs, teach=torch.zeros(3, 2))


def test_public_name() -> None:
    assert ob.least_squares is least_squares
