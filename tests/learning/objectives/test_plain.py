"""The client's own loss, and nothing else."""

import torch
from torch import nn

from onebasin.learning.objective import Batch, LocalPhase
from onebasin.learning.objectives.plain import Plain


def test_the_loss_and_the_gradients_are_the_models_own() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    parameter.grad = torch.tensor([0.5, -0.5])
    phase = LocalPhase(nn.Identity(), {"w": parameter}, {"w": torch.zeros(2)})
    batch = Batch(torch.zeros(1), torch.zeros(1), torch.zeros(1), torch.tensor(0.25), None)
    assert Plain().loss(phase, batch) is batch.loss
    Plain().adjust_gradients(phase)
    assert parameter.grad.tolist() == [0.5, -0.5]
    assert (Plain.uses_features, Plain.keeps_memory, Plain.exchange) == (False, False, "")
