"""The outer step of DiLoCo: two steps by hand."""

import torch

from onebasin.methods.aggregation.nesterov import Nesterov
from onebasin.methods.aggregation_rule import Mean, apply_rule


def test_two_steps_by_hand() -> None:
    # beta = 1/2, rate 2. v1 = d1 = [4, -2]; w1 = 2 (d1 + v1/2) = [12, -6].
    # v2 = v1/2 + d2 = [3, 2]; w2 = w1 + 2 (d2 + v2/2) = [12, -6] + 2 ([1, 3] + [1.5, 1]) = [17, 2].
    rule = Nesterov(rate=2.0, beta=0.5)
    slots = apply_rule(rule, {"weights": {"w": torch.zeros(2)}}, Mean({"w": torch.tensor([4.0, -2.0])}))
    assert slots["momentum"]["w"].tolist() == [4.0, -2.0]
    assert slots["weights"]["w"].tolist() == [12.0, -6.0]
    slots = apply_rule(rule, slots, Mean({"w": torch.tensor([1.0, 3.0])}))
    assert slots["momentum"]["w"].tolist() == [3.0, 2.0]
    assert slots["weights"]["w"].tolist() == [17.0, 2.0]


def test_it_is_pytorch_s_nesterov_momentum() -> None:
    """`torch.optim.SGD` descends along gradients; the mean update is the negative of one."""
    parameter = torch.nn.Parameter(torch.tensor([1.0, -1.0]))
    optimizer = torch.optim.SGD([parameter], lr=0.7, momentum=0.9, nesterov=True)
    slots = {"weights": {"w": parameter.detach().clone()}}
    for step in range(4):
        update = torch.tensor([0.5, -0.25]) * (step - 1)
        parameter.grad = -update
        optimizer.step()
        slots = apply_rule(Nesterov(rate=0.7, beta=0.9), slots, Mean({"w": update}))
    torch.testing.assert_close(slots["weights"]["w"], parameter.detach())
