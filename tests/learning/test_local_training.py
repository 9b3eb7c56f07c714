"""The local loop on three values, by hand; batches, recipes and what the optimiser keeps."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.federation.rounds import Federation, small
from torch import nn

from onebasin.core.layout import Tensors
from onebasin.learning.data.examples import Split
from onebasin.learning.local_training import (
    Start,
    Trained,
    Training,
    TrainingFailed,
    batches,
    default_generator_seeded,
    load_optimizer,
    read_optimizer,
    steps_of,
    train_locally,
)
from onebasin.learning.task import Task

MakeTask = Callable[[list[list[float]], list[int]], Task]
MakePhase = Callable[..., Trained]


@pytest.fixture
def phase(quadratic: MakeTask) -> MakePhase:
    """Train from [0, 0, 0] towards [8, 0, -8] at a rate of 1/2."""
    task = quadratic([[8.0, 0.0, -8.0]], [2])

    def train(recipe: dict[str, Any], round: int = 1, **start: Any) -> Trained:
        begun = Start({"w": torch.zeros(3)}, {}, **start)
        chosen = Training.model_validate({"lr": 0.5, "batch": 2, "steps": 1, **recipe})
        return train_locally(task.build_model(0), begun, task.dataset.train, torch.arange(2), chosen, round, 0)

    return train


def test_a_step_goes_half_the_way(phase: MakePhase) -> None:
    # losses before the steps: 1/2 (8^2 + 8^2) = 64, then 16
    assert phase({}).weights["w"].tolist() == [4.0, 0.0, -4.0]
    trained = phase({"steps": 2})
    assert trained.weights["w"].tolist() == [6.0, 0.0, -6.0]
    assert (trained.steps, trained.loss, trained.optimizer, trained.memory) == (2, 40.0, {}, {})


def test_the_rate_decays_with_the_rounds(phase: MakePhase) -> None:
    # rates 1/2, 1/4, 1/8
    for round, share in ((1, 0.5), (2, 0.25), (3, 0.125)):
        assert phase({"lr_decay": 0.5}, round).weights["w"].tolist() == [8 * share, 0.0, -8 * share]


def test_the_gradient_is_clipped_by_its_norm(phase: MakePhase) -> None:
    # the gradient [-8, 0, 8] has the norm 8 sqrt(2); clipped to sqrt(2) it is [-1, 0, 1]
    assert phase({"clip": math.sqrt(2)}).weights["w"].tolist() == pytest.approx([0.5, 0.0, -0.5], rel=1e-5)
    assert phase({"clip": 1000.0}).weights["w"].tolist() == [4.0, 0.0, -4.0]


@pytest.mark.parametrize("recipe", [{}, {"momentum": 0.9}, {"weight_decay": 0.5}, {"optimizer": "adamw"}])
def test_values_that_are_not_trained_do_not_move(phase: MakePhase, recipe: dict[str, Any]) -> None:
    trained = phase({"steps": 3, **recipe}, trainable={"w": torch.tensor([True, True, False])})
    assert trained.weights["w"][2] == 0.0
    assert trained.weights["w"][0] > 0.0


def test_momentum_that_is_kept_goes_on_where_it_was(quadratic: MakeTask) -> None:
    """Two phases of one step, the optimiser kept, are one phase of two."""
    task = quadratic([[8.0, 0.0, -8.0]], [1])
    data, one = task.dataset.train, torch.arange(1)
    recipe = Training(lr=0.125, batch=1, steps=1, momentum=0.5, keep_optimizer=True)
    model = task.build_model(0)
    first = train_locally(model, Start({"w": torch.zeros(3)}, {}), data, one, recipe, 1, 0)
    assert first.optimizer["w:momentum_buffer"].tolist() == [-8.0, 0.0, 8.0]
    second = train_locally(model, Start(first.weights, {}, first.optimizer), data, one, recipe, 2, 0)
    both = train_locally(
        model, Start({"w": torch.zeros(3)}, {}), data, one, recipe.model_copy(update={"steps": 2}), 1, 0
    )
    assert second.weights["w"].tolist() == both.weights["w"].tolist() == [2.375, 0.0, -2.375]
    assert second.optimizer["w:momentum_buffer"].tolist() == both.optimizer["w:momentum_buffer"].tolist()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "torch.optim:RMSprop", "torch.optim:Adagrad"])
def test_an_optimizers_state_goes_through_tensors(optimizer: str) -> None:
    recipe = Training(optimizer=optimizer, momentum=0.5 if optimizer == "sgd" else 0.0, lr=0.1)

    def stepped(model: nn.Module, made: torch.optim.Optimizer) -> None:
        made.zero_grad()
        model(torch.ones(1, 2)).square().sum().backward()
        made.step()

    model, other = nn.Linear(2, 1), nn.Linear(2, 1)
    one = recipe.build_optimizer(model.parameters(), 1)
    stepped(model, one)
    other.load_state_dict(model.state_dict())
    restored = recipe.build_optimizer(other.parameters(), 1)
    load_optimizer(restored, other, read_optimizer(one, model))
    for each, made in ((model, one), (other, restored)):
        stepped(each, made)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_start_is_not_changed_and_the_result_is_not_the_workspace(quadratic: MakeTask) -> None:
    task = quadratic([[8.0, 0.0, -8.0]], [1])
    model, weights = task.build_model(0), {"w": torch.zeros(3)}
    recipe = Training(lr=0.5, batch=1, steps=1)
    trained = train_locally(model, Start(weights, {}), task.dataset.train, torch.arange(1), recipe, 1, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(99.0)
    assert weights["w"].tolist() == [0.0, 0.0, 0.0]
    assert trained.weights["w"].tolist() == [4.0, 0.0, -4.0]


def dropout_phase(seed: int) -> Tensors:
    """Train with dropout; check that the global generator is left as it was."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    start = Start({name: torch.full_like(p, 0.25) for name, p in model.named_parameters()}, {})
    data = Split(torch.arange(48.0).view(12, 4) / 48, torch.arange(12) % 2)
    before = torch.get_rng_state()
    trained = train_locally(model, start, data, torch.arange(12), Training(batch=4, epochs=2), 1, seed)
    assert torch.equal(torch.get_rng_state(), before)
    return trained.weights


def test_a_phase_follows_from_its_seed_and_from_nothing_else() -> None:
    one, again, other = dropout_phase(1), dropout_phase(1), dropout_phase(2)
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


def test_the_generator_of_modules_is_put_back_after_an_error() -> None:
    def interrupted() -> None:
        with default_generator_seeded(3):
            torch.rand(5)
            raise KeyError

    state = torch.get_rng_state()
    with pytest.raises(KeyError):
        interrupted()
    assert torch.equal(torch.get_rng_state(), state)


# What cannot be trained


def test_without_examples_there_is_nothing_to_train_on(quadratic: MakeTask) -> None:
    task = quadratic([[8.0, 0.0, -8.0]], [1])
    with pytest.raises(TrainingFailed, match="this client holds no examples"):
        train_locally(
            task.build_model(0), Start({"w": torch.zeros(3)}, {}), task.dataset.train, torch.arange(0), Training(), 1, 0
        )


@pytest.mark.parametrize(("examples", "batch"), [(1, 32), (8, 1)])
def test_batchnorm_cannot_train_on_single_examples(examples: int, batch: int) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    start = Start({name: p.detach().clone() for name, p in model.named_parameters()}, dict(model[1].named_buffers()))
    data = Split(torch.ones(8, 2), torch.zeros(8, dtype=torch.int64))
    with pytest.raises(TrainingFailed, match=rf"batches of 1 \(batch={batch}, examples={examples}\)"):
        train_locally(model, start, data, torch.arange(examples), Training(batch=batch), 1, 0)


def test_a_loss_that_is_no_longer_finite_names_its_step(phase: MakePhase) -> None:
    with pytest.raises(TrainingFailed, match="the loss became inf in step 3 of round 4"):
        phase({"lr": 1e18, "steps": 5}, 4)


# Batches

RECIPES = st.builds(
    lambda batch, epochs, steps: Training(batch=batch, epochs=epochs, steps=steps),
    st.integers(1, 9),
    st.integers(1, 3),
    st.none() | st.integers(1, 9),
)


@given(st.integers(1, 30), RECIPES, st.integers(0, 99))
def test_an_epoch_has_every_example_once_but_for_a_last_one_alone(examples: int, recipe: Training, seed: int) -> None:
    indices = torch.arange(100, 100 + examples)
    found = list(batches(indices, recipe, torch.Generator().manual_seed(seed)))
    assert len(found) == steps_of(examples, recipe)
    assert len({len(batch) for batch in found} | {recipe.batch}) <= 3
    if recipe.steps is None:
        counts = torch.bincount(torch.cat(found) - 100, minlength=examples)
        alone = examples % recipe.batch == 1 and examples > 1 < recipe.batch
        assert counts.sum() == recipe.epochs * (examples - alone)
        assert counts.max() == recipe.epochs
    again = batches(indices, recipe, torch.Generator().manual_seed(seed))
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


def test_steps_take_the_place_of_epochs() -> None:
    assert steps_of(100, Training(batch=10, epochs=3)) == 30
    assert steps_of(100, Training(batch=10, epochs=3, steps=7)) == 7
    assert steps_of(101, Training(batch=10, epochs=2)) == 20, "one example alone is left out"
    assert steps_of(102, Training(batch=10, epochs=2)) == 22


# Recipes


def test_a_warm_up_is_the_recipe_with_its_own_epochs_rate_and_optimizer() -> None:
    recipe = Training(lr=0.1, momentum=0.9, steps=5, epochs=2, weight_decay=0.5, optimizer_options={"nesterov": True})
    assert recipe.warmup_recipe == recipe
    warm = recipe.model_copy(update={"warmup": 7, "warmup_lr": 0.5, "warmup_optimizer": "adam"}).warmup_recipe
    assert (warm.epochs, warm.steps, warm.lr) == (7, None, 0.5)
    assert (warm.optimizer, warm.momentum, warm.optimizer_options) == ("adam", 0.0, {})
    assert (warm.weight_decay, warm.batch) == (0.5, 32)
    assert recipe.rate(1) == recipe.rate(9) == 0.1
    assert Training(lr=1.0, lr_decay=0.5).rate(4) == 0.125


@pytest.mark.parametrize(("first", "then"), [("adam", "sgd"), ("sgd", "adam"), ("adamw", "adam")])
def test_after_a_warm_up_by_another_optimizer_rounds_go_on(first: str, then: str) -> None:
    settings = (f"training.warmup_optimizer={first}", f"training.optimizer={then}", "training.keep_optimizer=true")
    made = Federation(small("fedavg", "method.start=local", *settings)).play()
    assert made.server.result.failures == {}


def test_after_a_warm_up_by_an_optimizer_from_outside_rounds_go_on() -> None:
    settings = ("training.warmup_optimizer=torch.optim:RMSprop", "training.optimizer=adam")
    made = Federation(small("fedavg", "method.start=local", *settings, "training.keep_optimizer=true")).play()
    assert made.server.result.failures == {}
