"""SCAFFOLD at the client: the correction is added to every gradient; and what the objective excludes."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from onebasin.core.settings import ConfigError
from onebasin.federation.read_config import read_config
from onebasin.learning.local_training import Start, Training, train_locally
from onebasin.learning.objective import LocalPhase
from onebasin.learning.objectives.control_variates import ControlVariates
from onebasin.learning.task import Task

MakeTask = Callable[[list[list[float]], list[int]], Task]


def test_the_correction_is_added_to_the_gradients_that_there_are() -> None:
    used, unused = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    used.grad = torch.tensor([1.0, 2.0])
    correction = {"used": torch.tensor([0.5, -0.5]), "unused": torch.ones(2)}
    phase = LocalPhase(nn.Identity(), {"used": used, "unused": unused}, {}, correction=correction)
    ControlVariates().adjust_gradients(phase)
    assert used.grad.tolist() == [1.5, 1.5]
    assert unused.grad is None


def test_a_phase_is_corrected_in_every_step(quadratic: MakeTask) -> None:
    # gradient (w - t) + 2: from 0, rate 1/2: w = (t - 2) / 2, then 3/4 (t - 2) = [4.5, -1.5, -7.5]
    task = quadratic([[8.0, 0.0, -8.0]], [1])
    start = Start({"w": torch.zeros(3)}, {}, objective=ControlVariates(), correction={"w": torch.full((3,), 2.0)})
    recipe = Training(lr=0.5, batch=1, steps=2)
    trained = train_locally(task.build_model(0), start, task.dataset.train, torch.arange(1), recipe, 1, 0)
    assert trained.weights["w"].tolist() == [4.5, -1.5, -7.5]


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("local-only", ("method.objective=control-variates",), "needs an uplink and a downlink"),
        ("scaffold", ("method.uplink=top-k 0.1 | sign",), "needs an uplink and a downlink of fp32, fp16, int8"),
        ("adopt-one", ("method.objective=control-variates",), "no common model in round 1, which 'control-variates'"),
        (
            "scaffold",
            ("method.start=local", "method.frame=weights"),
            "frame='weights' and objective='control-variates' exclude each other",
        ),
        ("scaffold", ("method.combine=krum",), "which neither norm_bound nor combine='krum' guards"),
    ],
)
def test_what_does_not_go_with_control_variates_is_refused(method: str, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(method, changes)


def test_masks_of_own_seeds_are_refused() -> None:
    with pytest.raises(ConfigError, match="control-variates"):
        read_config("scaffold", ["method.start=local", "method.models=masked"])
