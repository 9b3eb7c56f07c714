from collections.abc import Callable
from itertools import product

import pytest
import torch
from tests.alignment.nets import noisy, seeded
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from onebasin.alignment import AlignmentError, average
from onebasin.alignment.forward_hooks import forward
from onebasin.alignment.least_squares import least_squares
from onebasin.alignment.recurrence import fit_gates, gate_pre_activations, recurrent_layers

DRAWS = torch.Generator().manual_seed(4)
KINDS: list[Callable[..., nn.RNNBase]] = [
    nn.GRU,
    nn.LSTM,
    nn.RNN,
    lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
]


@pytest.mark.parametrize(("kind", "bias", "both"), list(product(KINDS, (True, False), (True, False))))
@torch.no_grad()
def test_replayed_gates_give_the_output_of_the_module(kind: Callable[..., nn.RNNBase], bias: bool, both: bool) -> None:
    module = seeded(lambda: kind(3, 5, num_layers=2, bias=bias, bidirectional=both, batch_first=True), 1)
    inputs = torch.randn(4, 7, 3, generator=DRAWS)
    _, returned = gate_pre_activations(module, inputs)
    torch.testing.assert_close(returned, module(inputs)[0])


@pytest.mark.parametrize(("kind", "bias", "both"), list(product(KINDS, (True, False), (True, False))))
@torch.no_grad()
def test_the_gates_of_another_module_are_fitted_exactly(
    kind: Callable[..., nn.RNNBase], bias: bool, both: bool
) -> None:
    """Without a penalty, a module can reproduce the gates of another of its kind for any inputs."""

    def build() -> nn.RNNBase:
        return kind(3, 5, num_layers=2, bias=bias, bidirectional=both, batch_first=True).double()

    teacher, pupil = seeded(build, 1), seeded(build, 2)
    inputs, others = torch.randn(2, 200, 7, 3, generator=DRAWS, dtype=torch.float64)
    fit_gates(pupil, inputs, gate_pre_activations(teacher, inputs)[0], 1e-12)
    torch.testing.assert_close(pupil(others)[0], teacher(others)[0], rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_gate_by_hand() -> None:
    """One neuron, one step from h = 0: w = w0 + x t / (x x + r mean(x x, h h)) with the residual t = 10 - 4."""
    module = nn.RNN(1, 1, bias=False, batch_first=True)
    for weight in module.parameters():
        weight.fill_(2.0)
    fit_gates(module, torch.tensor([[[2.0]]]), torch.tensor([[[10.0]]]), 0.5)
    assert [weight.item() for weight in module.parameters()] == pytest.approx([2 + 2 * 6 / (4 + 0.5 * 2), 2.0])


class Tagger(nn.Module):
    """A recurrent layer and a linear one at every step; `call` selects how the recurrent layer is called."""

    def __init__(self, call: str, recurrent: nn.RNNBase) -> None:
        super().__init__()
        self.call, self.recurrent, self.fc = call, recurrent, nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor
        if self.call == "packed":
            packed = pack_padded_sequence(inputs, torch.full((len(inputs),), inputs.shape[1]), batch_first=True)
            return torch.as_tensor(self.fc(input=self.recurrent(packed)[0].data))
        if self.call == "first state":
            outputs = self.recurrent(inputs, inputs.new_ones(1, len(inputs), 6))[0]
        elif self.call == "time first":
            outputs = self.recurrent(inputs.transpose(0, 1))[0].transpose(0, 1)
        elif self.call == "single":
            outputs = torch.stack([self.recurrent(one)[0] for one in inputs])
        else:
            outputs = self.recurrent(input=inputs)[0]
        return torch.as_tensor(self.fc(outputs))


def states_of(call: str) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    def build() -> nn.Module:
        return Tagger(call, nn.GRU(4, 6, batch_first=call != "time first"))

    return seeded(build, 0), [noisy(seeded(build, 0).state_dict(), 0.5, seed) for seed in range(4)]


@pytest.mark.parametrize("call", ["by name", "time first"])
def test_a_merged_recurrent_network_reproduces_the_mean_output(call: str) -> None:
    """On sequences it was not fitted to, the result is nearer to the models' mean output than their average is."""
    model, states = states_of(call)
    probes, others = torch.randn(2, 300, 12, 4, generator=DRAWS)
    mean = torch.stack([forward(model, state, others) for state in states]).mean(0)
    plain = (forward(model, average(states), others) - mean).square().mean()
    merged = least_squares(model, states, probes)
    fitted = (forward(model, merged, others) - mean).square().mean()
    assert fitted < 0.5 * plain
    assert not torch.equal(merged["recurrent.weight_hh_l0"], average(states)["recurrent.weight_hh_l0"])


@pytest.mark.parametrize("call", ["first state", "packed", "single"])
def test_recurrent_layers_that_cannot_be_replayed_keep_their_average(call: str) -> None:
    model, states = states_of(call)
    probes = torch.randn(20, 12, 4, generator=DRAWS)
    merged, mean = least_squares(model, states, probes), average(states)
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        torch.testing.assert_close(merged[f"recurrent.{name}"], mean[f"recurrent.{name}"])
    assert not torch.equal(merged["fc.weight"], mean["fc.weight"])


def test_infinite_outputs_are_refused() -> None:
    def build() -> nn.Module:
        return Tagger("by name", nn.RNN(4, 6, nonlinearity="relu", batch_first=True))

    states = [{name: 9 * value for name, value in seeded(build, seed).state_dict().items()} for seed in range(3)]
    with pytest.raises(
        AlignmentError, match="merged by least squares: fc\\.weight has weights that are NaN or infinite"
    ):
        least_squares(seeded(build, 0), states, torch.randn(10, 200, 4, generator=DRAWS))


def test_tied_and_projected_recurrent_layers_are_left_out() -> None:
    one, other = nn.GRU(4, 4), nn.GRU(4, 4)
    other.weight_hh_l0 = one.weight_hh_l0
    model = nn.ModuleList([one, other, nn.LSTM(4, 4, proj_size=2), nn.LSTM(4, 4)])
    assert list(recurrent_layers(model)) == ["3"]
