from collections.abc import Callable

import pytest
import torch
from tests.alignment.nets import convolutional, perceptron, seeded
from torch import Tensor, nn

import onebasin as ob
from onebasin.alignment import AlignmentError
from onebasin.alignment.forward_hooks import forward
from onebasin.alignment.repair import restore, statistics, statistics_spec

INPUTS = torch.randn(300, 6, generator=torch.Generator().manual_seed(1))


def test_statistics_by_hand() -> None:
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    state = model.state_dict() | {
        "0.weight": torch.tensor([[1.0], [-2.0]]),
        "0.bias": torch.tensor([0.0, 1.0]),
    }
    found = statistics(model, state, torch.tensor([[1.0], [3.0]]))
    assert set(found) == {"0"}, "the layer that the model returns is not a hidden layer"
    torch.testing.assert_close(found["0"], torch.tensor([[2.0, -3.0], [1.0, 2.0]]))


@pytest.mark.parametrize("method", ["repair", "rescale"])
def test_the_statistics_of_attenuated_neurons_are_restored(method: str) -> None:
    model = seeded(lambda: perceptron(6, 12, 12, 3), 0)
    state = model.state_dict()
    targets = statistics(model, state, INPUTS)
    attenuated = {n: 0.3 * v if n in ("1.weight", "3.weight") else v for n, v in state.items()}
    repaired = restore(model, attenuated, targets, INPUTS, method)  # type: ignore[arg-type]
    found = statistics(model, repaired, INPUTS)
    for name in targets:
        torch.testing.assert_close(found[name][1], targets[name][1], rtol=1e-3, atol=1e-4)
        if method == "repair":
            torch.testing.assert_close(found[name][0], targets[name][0], rtol=1e-3, atol=1e-4)
    if method == "repair":
        torch.testing.assert_close(
            forward(model, repaired, INPUTS), forward(model, state, INPUTS), rtol=1e-3, atol=1e-4
        )


def test_the_mean_of_the_models_statistics_whatever_their_order() -> None:
    build = lambda: perceptron(6, 12, 12, 3)  # noqa: E731
    first, second = (seeded(build, seed).state_dict() for seed in (0, 1))
    spec = ob.find_permutations(build(), INPUTS)
    aligned = spec.apply(second, ob.match(spec, first, second))
    merged = {n: (first[n] + aligned[n]) / 2 for n in first}
    model = build()
    repaired = ob.repair(model, merged, [first, second], INPUTS, [3, 1])
    same = ob.repair(model, merged, [first, aligned], INPUTS, [3, 1], spec=spec)
    targets = {
        n: 0.75 * statistics(model, first, INPUTS)[n] + 0.25 * statistics(model, aligned, INPUTS)[n] for n in "13"
    }
    found = statistics(model, repaired, INPUTS)
    for name in targets:
        torch.testing.assert_close(found[name], targets[name], rtol=1e-3, atol=1e-4)
    assert all(torch.equal(repaired[name], same[name]) for name in same)


def test_running_statistics_are_recomputed() -> None:
    model = seeded(lambda: perceptron(6, 10, 3, norm=True), 0)
    state = model.state_dict() | {"2.running_mean": torch.full((10,), 9.0), "2.running_var": torch.full((10,), 0.1)}
    reset = ob.repair(model, state, [], INPUTS, method="norm-reset")
    given = INPUTS @ state["1.weight"].T + state["1.bias"]
    torch.testing.assert_close(reset["2.running_mean"], given.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(reset["2.running_var"], given.var(0), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(reset[n], state[n]) for n in state if not n.startswith("2.running"))


def test_dead_neurons_stay_dead() -> None:
    model = seeded(lambda: perceptron(6, 5, 2), 0)
    state = model.state_dict()
    state["1.weight"][2] = 0.0
    targets = statistics(model, seeded(lambda: perceptron(6, 5, 2), 1).state_dict(), INPUTS)
    repaired = restore(model, state, targets, INPUTS, "rescale")
    assert not bool(repaired["1.weight"][2].any())
    assert bool(torch.isfinite(repaired["1.weight"]).all())


@pytest.mark.parametrize(
    ("build", "shape"), [(lambda: perceptron(6, 12, 7, 3), (40, 6)), (convolutional, (10, 1, 8, 8))]
)
def test_statistics_move_with_their_neurons(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model = seeded(build, 0).eval()
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    spec = ob.find_permutations(model, inputs)
    spec_of_statistics = statistics_spec(spec, model, inputs)
    perms = spec.random(5)
    state = model.state_dict()
    moved = spec_of_statistics.apply(statistics(model, state, inputs), perms)
    for name, value in statistics(model, spec.apply(state, perms), inputs).items():
        torch.testing.assert_close(value, moved[name], rtol=1e-3, atol=1e-5)


def test_invalid_arguments_are_refused() -> None:
    model = perceptron(6, 5, 2)
    state: dict[str, Tensor] = model.state_dict()
    with pytest.raises(AlignmentError, match="repair: 'mend'; expected one of repair, rescale, norm-reset"):
        ob.repair(model, state, [state], INPUTS, method="mend")  # type: ignore[arg-type]
    with pytest.raises(AlignmentError, match="states: none; expected the models that were merged"):
        ob.repair(model, state, [], INPUTS)
    broken = {**state, "1.bias": torch.full((5,), torch.nan)}
    with pytest.raises(AlignmentError, match=r"merged: 1\.bias has weights that are NaN"):
        ob.repair(model, broken, [state], INPUTS)
