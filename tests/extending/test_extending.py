"""The examples of docs/extending.md, one by one, against numbers worked out by hand."""

import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.extending.conftest import blocks
from tests.stopped_runs import Stop, StopAfter, StopWithin, assert_same_run
from tests.user_code import dataset
from torch import Tensor, nn

import onebasin as ob
from onebasin.codecs.chain import Chain
from onebasin.codecs.context import CodingContext
from onebasin.core.layout import Layout
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.read_config import read_config
from onebasin.federation.round_loop import in_order
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.data.partition import partition
from onebasin.learning.load_task import load_task
from onebasin.learning.objective import Batch, LocalPhase
from onebasin.learning.task import Task
from onebasin.methods.aggregation_rule import ClientModel, Mean, MergeContext, TooFewReplies, apply_rule
from onebasin.networks.weights import clone, parameters_of

TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0]]
MakeTask = Callable[[list[list[float]], list[int]], Task]
MakeConfig = Callable[..., RunConfig]


def configure(*overrides: str, rounds: int = 2, method: str = "fedavg") -> RunConfig:
    """Configure a run on the quadratic task: a step with rate 1/2 halves the way to a client's target."""
    training = {"optimizer": "sgd", "lr": 0.5, "weight_decay": 0.0, "batch": 1, "epochs": 1, "clip": 1e9}
    federation = {"rounds": rounds, "weighting": "uniform"}
    return read_config(
        {"method": method, "task": {"clients": 2}, "training": training, "federation": federation}, overrides
    )


def play(config: RunConfig, task: Task) -> tuple[Server, InProcess, list[list[float]]]:
    """Play all rounds from zeros; return the weights after each."""
    server, engine = Server(config, task), InProcess(Client(config, task))
    server.state.slots["weights"] = {"w": torch.zeros(3)}
    trace = []
    for round in range(1, config.federation.rounds + 1):
        orders = server.open(round)
        server.close(in_order(orders, engine.exchange(orders)))
        assert not server.result.failures
        trace.append(server.state.slots["weights"]["w"].tolist())
    return server, engine, trace


def commands() -> list[list[str]]:
    """Return the words of the page's commands."""
    lines = [line for block in blocks("") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("onebasin run")]


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words[2:])[:60])
def test_every_command_on_the_page_describes_a_run(words: list[str], mine: Any) -> None:
    assert len(read_config(words[2], words[3:]).identity()) == 16


# --- natural compression


def natural(values: Tensor, chain: str = "mine:Natural", **context: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Encode and decode; return the values for the sender and for the receiver, and the sender's residuals."""
    codec, kept = Chain(chain, Layout.of({"w": values})), CodingContext(**context)
    body, sent = codec.send({"w": values}, kept)
    known = {key: value for key, value in context.items() if key != "residuals"}
    return sent["w"], codec.receive(body, CodingContext(**known))["w"], kept.next_residuals


def test_natural_compression_rounds_to_one_of_the_two_nearest_powers_of_two(mine: Any) -> None:
    exact = torch.tensor([0.0, 1.0, -2.0, 0.25, 2.0**100, -(2.0**-100)])
    assert torch.equal(natural(exact)[1], exact), "zero and powers of two stay"
    rounded = natural(torch.tensor([3.0, -0.3, 5.0]).repeat(200))[1].view(200, 3)
    assert [sorted(set(column.tolist())) for column in rounded.T] == [[2.0, 4.0], [-0.5, -0.25], [4.0, 8.0]]


def test_natural_compression_is_unbiased(mine: Any) -> None:
    # 3 becomes 2 or 4 by halves: variance 1; 1.25 becomes 1 three times of four, else 2: variance 3/16.
    # 40,000 draws: standard errors of 1/200 and 0.0022; five of them are allowed.
    means = natural(torch.tensor([3.0, -1.25]).repeat(40_000), round=3)[1].view(-1, 2).double().mean(0)
    assert means.tolist() == [pytest.approx(3.0, abs=0.025), pytest.approx(-1.25, abs=0.011)]


@given(st.lists(st.floats(-(2.0**126), 2.0**126, width=32), max_size=50), st.integers(1, 5))
def test_natural_compression_decodes_bit_for_bit(mine: Any, values: list[float], round: int) -> None:
    sent, received, _ = natural(torch.tensor(values), round=round, sender=2)
    assert torch.equal(sent, received)


def test_natural_compression_with_error_feedback_decodes_bit_for_bit(mine: Any) -> None:
    draws, residuals = torch.Generator().manual_seed(0), dict[str, Tensor]()
    for round in (1, 2, 3):
        values = torch.randn(100, generator=draws)
        before = residuals.get("error-feedback", torch.zeros(100))
        sent, received, residuals = natural(
            values, "error-feedback | top-k 0.5 | mine:Natural", round=round, residuals=residuals
        )
        assert torch.equal(sent, received)
        assert torch.equal(residuals["error-feedback"], values + before - received)


# --- FedNova


def test_fednova_by_hand(mine: Any, quadratic: MakeTask) -> None:
    # Client 0 has two examples and makes two steps, to 3/4 t_0; client 1 makes one, to 1/2 t_1.
    # Per step 3/8 t_0 and 1/2 t_1; the mean, times the mean of 1.5 steps: 9/32 t_0 + 3/8 t_1 = [2.25, 6, -5.25].
    *_, trace = play(configure("method.combine=mine:FedNova", rounds=1), quadratic(TARGETS, [2, 1]))
    assert trace == [[2.25, 6.0, -5.25]]


def test_fednova_weighs_steps_by_examples(mine: Any, quadratic: MakeTask) -> None:
    # Weights 2/3 and 1/3: mean steps 5/3; per step 2/3 * 3/8 t_0 + 1/3 * 1/2 t_1: together 5/12 t_0 + 5/18 t_1.
    config = configure("method.combine=mine:FedNova", "federation.weighting=examples", rounds=1)
    *_, trace = play(config, quadratic(TARGETS, [2, 1]))
    assert trace[0] == pytest.approx([10 / 3, 40 / 9, -10 / 3 - 20 / 9], rel=1e-6)


def test_a_rule_that_sees_each_model_knows_the_steps_and_the_share_too(quadratic: MakeTask) -> None:
    # As for FedNova by hand, and all clients took part; then one of two, which halves the step: 1/2 * 2 * 3/8 t_0.
    rule = "method.combine=tests.extending.parts:PerStep"
    *_, trace = play(configure(rule, rounds=1), quadratic(TARGETS, [2, 1]))
    assert trace == [[2.25, 6.0, -5.25]]
    config = configure(rule, "federation.cohort=1", rounds=1)
    *_, trace = play(config, quadratic([TARGETS[0], TARGETS[0]], [2, 2]))
    assert trace == [[3.0, 0.0, -3.0]]


# --- the geometric median


def merged(rule: Any, rows: list[list[float]]) -> list[float]:
    models = [ClientModel(place, 1.0, {"w": torch.tensor(row)}, {}, True) for place, row in enumerate(rows)]
    found: list[float] = rule.merge(models, cast(MergeContext, None)).state["w"].tolist()
    return found


def test_the_geometric_median_by_hand(mine: Any) -> None:
    # Of a triangle it is the point that sees each side at 120 degrees: of (-a, 0), (a, 0), (0, h) that is
    # (0, a / sqrt 3).
    rule = mine.GeometricMedian(iterations=200)
    side = math.sqrt(3)
    assert merged(rule, [[-side, 0.0], [side, 0.0], [0.0, 5.0]]) == pytest.approx([0.0, 1.0], abs=1e-5)
    assert merged(rule, [[0.0], [1.0], [10.0]]) == pytest.approx([1.0], abs=1e-5), "on a line it is the median"
    assert merged(rule, [[1.0, 1.0], [1.0, 1.0], [1e6, -1e6]]) == pytest.approx([1.0, 1.0], abs=1e-5)
    with pytest.raises(TooFewReplies, match="'mine:GeometricMedian' needs 3 replies or more; there are 2"):
        merged(rule, [[1.0], [2.0]])


def test_the_geometric_median_withstands_flipped_signs(mine: Any, quick_config: MakeConfig, tmp_path: Path) -> None:
    attack = "federation.attack={kind='sign-flip', fraction=0.4, strength=2.0}"
    common = ("task.clients=5", "task.partition=iid", "training.lr=0.2", attack)
    score = {}
    for rule in ("average", "mine:GeometricMedian"):
        run = ob.run(quick_config("fedavg", f"method.combine={rule}", *common), out=tmp_path / rule)
        score[rule] = run.summary["accuracy"]["final"]
    assert score["mine:GeometricMedian"] > 0.7
    assert score["average"] < 0.5


# --- FedDyn


def test_feddyn_by_hand(mine: Any, quadratic: MakeTask) -> None:
    # alpha = 1, and rate 1/2 is Newton's step for a curvature of 2, so one step solves each phase exactly.
    # Round 1: (w - t_i) + w = 0: w = t_i / 2; memory w - t_i = -t_i / 2. Mean m = [4, 8, -8] / 2 of the updates;
    # h = -m / 2; w = m / 2 + m / 2 = m: the minimum of the mean of losses, where FedAvg is at m / 2.
    # Round 2: (w - t_i) + t_i / 2 + (w - m) = 0: w = t_i / 4 + m / 2; memory w - t_i = -3/4 t_i + m / 2;
    # mean update -m / 4; h = -m / 2 + m / 4; w = m - m / 4 + m / 4 = m.
    alpha = ("method.objective.alpha=1.0", "method.combine.alpha=1.0")
    config = configure("training.batch=1", *alpha, method="mine:FEDDYN")
    server, engine, trace = play(config, quadratic(TARGETS, [1, 1]))
    assert trace == [[4.0, 8.0, -8.0], [4.0, 8.0, -8.0]]
    assert server.state.slots["h"]["w"].tolist() == [-1.0, -2.0, 2.0]
    for client, target in enumerate(TARGETS):
        expected = [-0.75 * t + m / 2 for t, m in zip(target, [4.0, 8.0, -8.0], strict=True)]
        assert engine.state_of(client).slots["objective"]["w"].tolist() == expected


def test_feddyn_counts_the_absent(mine: Any, quadratic: MakeTask) -> None:
    # One of two clients, both with the target t: the update is t / 2; h = -1/2 * t / 2; w = t / 2 + t / 4.
    alpha = ("method.objective.alpha=1.0", "method.combine.alpha=1.0", "federation.cohort=1")
    *_, trace = play(configure(*alpha, rounds=1, method="mine:FEDDYN"), quadratic([TARGETS[0]] * 2, [1, 1]))
    assert trace == [[6.0, 0.0, -6.0]]


@pytest.mark.parametrize("stopping", [StopAfter(2), StopWithin(3)], ids=["between rounds", "within a round"])
def test_feddyn_s_memory_survives_a_stop(stopping: Any, mine: Any, quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("mine:FEDDYN", "federation.rounds=4", "federation.cohort=3", "training.epochs=1")
    ob.run(config, out=tmp_path / "whole")
    with pytest.raises(Stop):
        ob.run(config, out=tmp_path / "stopped", observers=[stopping])
    ob.run(resume=tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


# --- MOON


def two_features() -> nn.Module:
    """A model whose features are its inputs times a matrix that is one at first."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.eye(2))
    return model


def test_moon_s_contrast_by_hand(mine: Any) -> None:
    # The features are (1, 0); those of the received model (2, 0): cosine 1; those of the last model (0, 3): cosine 0.
    # mu = 2, temperature 1/2: 2 * -log(e^2 / (e^2 + e^0)) = 2 log(1 + e^-2), beside the model's own loss of 0.25.
    model, inputs = two_features(), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    trained = dict(model.named_parameters())
    received = clone(trained) | {"0.weight": torch.tensor([[2.0, 0.0], [0.0, 1.0]])}
    last = clone(trained) | {"0.weight": torch.tensor([[0.0, 1.0], [3.0, 0.0]])}
    objective = mine.Contrastive(mu=2.0)
    batch = Batch(inputs, torch.zeros(2), model(inputs), torch.tensor(0.25), model[0](inputs))  # type: ignore[index]
    found = objective.loss(LocalPhase(model, trained, received, last), batch)
    assert found.item() == pytest.approx(0.25 + 2 * math.log(1 + math.exp(-2)), rel=1e-6)
    found.backward()
    # d cosine / d feature 1: 0 with (2, 0), 1 with (0, 3); softmax of the latter p = 1 / (1 + e^2): 2 * p / (1/2).
    slope = model[0].weight.grad  # type: ignore[index]
    assert slope.flatten().tolist() == pytest.approx([0.0, 0.0, 4 / (1 + math.exp(2)), 0.0], abs=1e-6)
    assert objective.loss(LocalPhase(model, trained, received), batch) is batch.loss, "in a client's first phase"
    assert all(
        torch.equal(kept, trained[name]) for name, kept in objective.remember(LocalPhase(model, trained, {})).items()
    )


def test_features_with_other_weights_leave_batchnorm_s_statistics_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)).train()
    before = clone(dict(model.named_buffers()))
    phase = LocalPhase(model, dict(model.named_parameters()), {})
    inputs = torch.randn(8, 2)
    for weights in (None, clone(parameters_of(model))):
        assert torch.equal(phase.features(inputs, weights), model[1](model[0](inputs)))
        model.load_state_dict(before, strict=False)
        phase.features(inputs, weights)
        assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


# --- the others


def test_adapters_send_their_factors_alone(mine: Any, quick_config: MakeConfig, tmp_path: Path) -> None:
    # Digits, 64-64-10: of rank 2, (64 + 64) * 2 and (10 + 64) * 2 values of factors, and 74 biases.
    config = quick_config("fedavg", "method.parametrization=mine:LowRankAdapters", "method.parametrization.rank=2")
    run = ob.run(config, out=tmp_path / "run")
    assert run.summary["parameters"] == 2 * (64 + 64) + 2 * (10 + 64) + 74
    plain, adapted = (load_task(c).build_model(5).eval() for c in (quick_config("fedavg"), config))
    inputs = torch.randn(3, 1, 8, 8)
    assert torch.equal(plain(inputs), adapted(inputs)), "B = 0 at first"
    assert run.model is not None
    assert run.model.state_dict().keys() == plain.state_dict().keys(), "the final model has plain weights"
    assert run.summary["accuracy"]["final"] > run.history[0]["accuracy"]


def test_a_partition_by_zipf_s_law_by_hand(mine: Any) -> None:
    # 1 : 1/2 : 1/3 : 1/4 of 100 examples are 48, 24, 16 and 12.
    parts = partition("mine:zipf", dataset(), 4, seed=1, exponent=1.0)
    assert [len(part) for part in parts] == [48, 24, 16, 12]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(100))
    again = partition("mine:zipf", dataset(), 4, seed=1, exponent=1)
    assert all(torch.equal(one, other) for one, other in zip(parts, again, strict=True))


def test_lion_by_hand(mine: Any) -> None:
    # betas 1/2, 1/2. Gradient 4: sign(2) = 1, w = 1 - 1/4; m = 2. Gradient -1: sign(1 - 1/2) = 1, w = 1/2; m = 1/2.
    # Gradient -3: sign(1/4 - 3/2) = -1, w = 3/4.
    weight = nn.Parameter(torch.ones(1))
    lion = mine.Lion([weight], lr=0.25, betas=(0.5, 0.5))
    trace = []
    for gradient in (4.0, -1.0, -3.0):
        weight.grad = torch.tensor([gradient])
        lion.step()
        trace.append(weight.item())
    assert trace == [0.75, 0.5, 0.75]


def test_an_optimiser_s_memory_survives_a_stop(mine: Any, quick_config: MakeConfig, tmp_path: Path) -> None:
    lion = ("training.optimizer=mine:Lion", "training.lr=0.001", "training.keep_optimizer=true")
    ob.run(quick_config("fedavg", *lion), out=tmp_path / "whole")
    with pytest.raises(Stop):
        ob.run(quick_config("fedavg", *lion), out=tmp_path / "stopped", observers=[StopAfter(1)])
    ob.run(resume=tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_options_reach_an_optimiser_of_pytorch_s(quadratic: MakeTask) -> None:
    # RMSprop, alpha = 0, eps = 2: v = g^2; w = -lr g / (|g| + 2) = 1/2 [8/10, 0, -8/10] for client 0.
    options = ("training.optimizer=torch.optim:RMSprop", "training.optimizer_options={alpha=0.0, eps=2.0}")
    *_, trace = play(configure(*options, rounds=1), quadratic([TARGETS[0]] * 2, [1, 1]))
    assert trace[0] == pytest.approx([0.4, 0.0, -0.4], rel=1e-6)


def test_an_engine_of_one_s_own_sees_every_byte(mine: Any, quick_config: MakeConfig, tmp_path: Path) -> None:
    overrides = ("federation.rounds=2", "engine=mine:Recording", f"engine.folder={tmp_path / 'seen'}")
    run = ob.run(quick_config("fedavg", *overrides), out=tmp_path / "run")
    ob.run(quick_config("fedavg", "federation.rounds=2"), out=tmp_path / "single")
    assert_same_run(tmp_path / "run", tmp_path / "single")
    seen = sum(path.stat().st_size for path in (tmp_path / "seen").iterdir())
    assert seen == run.history[1]["bytes"]["total"] - run.history[0]["bytes"]["total"]
    assert len(list((tmp_path / "seen").iterdir())) == 8


def test_a_page_has_its_paper_s_settings_and_the_user_has_the_last_word(mine: Any) -> None:
    config = read_config("mine:FEDDYN", ["training.epochs=2"])
    assert config.training.model_dump(include={"lr", "batch", "epochs", "clip"}) == {
        "lr": 0.1,
        "batch": 50,
        "epochs": 2,
        "clip": 10.0,
    }
    assert config.federation.weighting == "uniform"
    assert config.method.objective == mine.Dynamic(kind="mine:Dynamic", alpha=0.01)
    assert (config.method.name, config.title) == ("mine:FEDDYN", "mine:FEDDYN")
    assert mine.DynamicServer().kind == "mine:DynamicServer", "a class is called by its reference"


def test_fedcm_by_hand(mine: Any, quadratic: MakeTask) -> None:
    # alpha = 1/2, rate 1/2, one step, m = [4, 8, -8] the mean target.
    # Round 1: direction 0; gradient 1/2 * -t_i; w = t_i / 4; mean m / 4, which is the next direction.
    # Round 2: gradient 1/2 (m/4 - t_i) - 1/2 (m/4) / (1/2) = -t_i / 2 - m / 8; w = m/4 + t_i / 4 + m / 16;
    # mean 9/16 m = [2.25, 4.5, -4.5]; direction 5/16 m.
    momentum = ("method.objective=mine:ClientMomentum", "method.objective.alpha=0.5")
    server, _, trace = play(configure(*momentum), quadratic(TARGETS, [1, 1]))
    assert trace == [[1.0, 2.0, -2.0], [2.25, 4.5, -4.5]]
    assert server.state.slots["direction"]["w"].tolist() == [1.25, 2.5, -2.5]


def test_a_hook_s_section_is_charged(mine: Any, quadratic: MakeTask) -> None:
    # A section of 1 byte of head, 1 of length, 4 of the body's head and 3 values of 4 bytes, to each client.
    sizes = []
    for objective in ("plain", "mine:ClientMomentum"):
        config = configure(f"method.objective={objective}")
        server = Server(config, quadratic(TARGETS, [1, 1]))
        sizes.append([len(order) for order in server.open(1).values()])
    assert [more - less for less, more in zip(*sizes, strict=True)] == [1 + 1 + 4 + 12] * 2


def test_a_hook_s_section_of_replies_is_averaged(quadratic: MakeTask) -> None:
    # The updates t_i / 2, told twice; their mean is m / 2.
    server, *_ = play(configure("method.combine=tests.extending.parts:Telling", rounds=1), quadratic(TARGETS, [1, 1]))
    assert server.state.slots["told"]["w"].tolist() == [2.0, 4.0, -4.0]


def test_a_rule_s_step_can_be_called_by_itself(mine: Any) -> None:
    slots = apply_rule(mine.FedNova(rate=0.5), {"weights": {"w": torch.ones(1)}}, Mean({"w": torch.ones(1)}, steps=3.0))
    assert slots["weights"]["w"].item() == 2.5
