"""What an objective sees and may change in a local phase: objectives that a user brings."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from onebasin.core.layout import Tensors
from onebasin.learning.data.examples import Split
from onebasin.learning.features import features_of
from onebasin.learning.local_training import Start, Trained, Training, TrainingFailed, train_locally
from onebasin.learning.objective import Batch, LocalPhase, Objective
from onebasin.networks.weights import clone, parameters_of

DATA = Split(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1] * 4))


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def train(objective: Objective, memory: Tensors | None = None, steps: int = 2) -> Trained:
    model = network()
    start = Start(clone(parameters_of(model)), {}, objective=objective, memory=memory or {})
    recipe = Training(lr=0.1, batch=4, steps=steps)
    return train_locally(model, start, DATA, torch.arange(8), recipe, 1, 0)


def same(one: Tensors, other: Tensors) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


class Twice(Objective):
    kind: Literal["twice"] = "twice"

    def loss(self, phase: LocalPhase, batch: Batch) -> Tensor:
        return 2 * batch.loss


class Frozen(Objective):
    kind: Literal["frozen"] = "frozen"

    def adjust_gradients(self, phase: LocalPhase) -> None:
        assert not torch.is_grad_enabled()
        for name, parameter in phase.parameters.items():
            if name.startswith("0."):
                parameter.grad = torch.zeros_like(parameter)


class Watching(Objective):
    """Compares what it is given with what it can compute, and remembers how often it was asked."""

    uses_features: ClassVar[bool] = True
    keeps_memory: ClassVar[bool] = True

    kind: Literal["watching"] = "watching"

    def loss(self, phase: LocalPhase, batch: Batch) -> Tensor:
        assert batch.features is not None
        assert torch.equal(batch.features, phase.features(batch.inputs))
        assert torch.equal(phase.features(batch.inputs, phase.received), features_of(network(), batch.inputs))
        assert torch.equal(batch.outputs, phase.model[2](batch.features))
        assert batch.inputs.shape == (4, 3)
        assert batch.loss.item() == pytest.approx(
            nn.functional.cross_entropy(batch.outputs, batch.targets).item(), rel=1e-6
        )
        return batch.loss + 0 * batch.features.sum()

    def remember(self, phase: LocalPhase) -> Tensors:
        assert not torch.is_grad_enabled()
        return {"w": phase.parameters["0.weight"], "phases": phase.memory.get("phases", torch.tensor(0)) + 1}


class Overflowing(Objective):
    kind: Literal["overflowing"] = "overflowing"

    def loss(self, phase: LocalPhase, batch: Batch) -> Tensor:
        return batch.loss * torch.inf


def test_the_base_leaves_everything_as_it_is() -> None:
    objective = Objective(kind="none")
    batch = Batch(torch.zeros(1), torch.zeros(1), torch.zeros(1), torch.tensor(0.5), None)
    phase = LocalPhase(network(), {}, {})
    assert objective.loss(phase, batch) is batch.loss
    objective.adjust_gradients(phase)
    assert objective.remember(phase) == {}
    assert (phase.memory, phase.correction) == ({}, {})
    nothing: Iterator[str] = objective.needs(None)
    assert [*nothing, *objective.run_needs(None)] == []


def test_a_step_follows_the_objectives_loss_and_the_report_has_the_models_own() -> None:
    plain, twice = train(Objective(kind="none"), steps=1), train(Twice(), steps=1)
    began = parameters_of(network())
    for name, value in began.items():
        torch.testing.assert_close(twice.weights[name] - value, 2 * (plain.weights[name] - value))
    assert twice.loss == plain.loss


def test_gradients_can_be_changed_before_a_step() -> None:
    trained, began = train(Frozen()), parameters_of(network())
    moved = {name for name, value in began.items() if not torch.equal(trained.weights[name], value)}
    assert moved == {"2.weight", "2.bias"}


def test_features_are_those_of_the_batch_and_memory_goes_from_phase_to_phase() -> None:
    first = train(Watching())
    assert first.memory["phases"].item() == 1
    assert torch.equal(first.memory["w"], first.weights["0.weight"])
    second = train(Watching(), first.memory)
    assert second.memory["phases"].item() == 2
    assert same(first.weights, train(Objective(kind="none")).weights), "it adds nothing to the loss"


def test_who_keeps_no_memory_is_not_asked_for_any() -> None:
    assert train(Twice()).memory == {}


def test_an_objective_that_is_not_finite_ends_the_phase() -> None:
    with pytest.raises(TrainingFailed, match="the loss became inf in step 1 of round 1"):
        train(Overflowing())
