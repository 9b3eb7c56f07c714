"""FedProx: the gradient of mu/2 |w - w_received|^2 is mu (w - w_received)."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from onebasin.learning.local_training import Start, Training, train_locally
from onebasin.learning.objective import LocalPhase
from onebasin.learning.objectives.proximal import Proximal
from onebasin.learning.task import Task

MakeTask = Callable[[list[list[float]], list[int]], Task]


def phase(gradient: list[float] | None) -> LocalPhase:
    parameter = nn.Parameter(torch.tensor([3.0, 1.0]))
    parameter.grad = None if gradient is None else torch.tensor(gradient)
    return LocalPhase(nn.Identity(), {"w": parameter}, {"w": torch.tensor([1.0, 1.0])})


def test_the_gradient_pulls_back_to_what_was_received() -> None:
    # [0.5, 0.5] + 0.25 ([3, 1] - [1, 1]) = [1, 0.5]
    found = phase([0.5, 0.5])
    Proximal(mu=0.25).adjust_gradients(found)
    assert found.parameters["w"].grad is not None
    assert found.parameters["w"].grad.tolist() == [1.0, 0.5]


def test_without_a_weight_it_is_the_clients_own_loss() -> None:
    found = phase([0.5, 0.5])
    Proximal(mu=0.0).adjust_gradients(found)
    assert found.parameters["w"].grad is not None
    assert found.parameters["w"].grad.tolist() == [0.5, 0.5]


def test_a_parameter_without_a_gradient_stays_without_one() -> None:
    found = phase(None)
    Proximal(mu=0.25).adjust_gradients(found)
    assert found.parameters["w"].grad is None


def test_many_steps_end_between_the_target_and_what_was_received(quadratic: MakeTask) -> None:
    # 1/2 |w - t|^2 + mu/2 |w|^2 is least at t / (1 + mu) = 8 / 4
    task = quadratic([[8.0, 0.0, -8.0]], [1])
    start = Start({"w": torch.zeros(3)}, {}, objective=Proximal(mu=3.0))
    recipe = Training(lr=0.125, batch=1, steps=60)
    trained = train_locally(task.build_model(0), start, task.dataset.train, torch.arange(1), recipe, 1, 0)
    assert trained.weights["w"].tolist() == pytest.approx([2.0, 0.0, -2.0], abs=1e-6)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="mu"):
        Proximal(mu=-0.1)
