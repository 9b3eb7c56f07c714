"""Whole rounds on three parameters, against numbers worked out by hand.

Client i minimises 1/2 |w - t_i|^2 with rate 1/2: k steps leave w = t_i + (w_0 - t_i) / 2^k, exact in float32.
"""

from collections.abc import Callable

import pytest
import torch

from onebasin.core.seeds import derive
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.read_config import read_config
from onebasin.federation.round_loop import in_order
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.task import Task
from onebasin.networks.weights import parameters_of

TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0]]
MakeTask = Callable[[list[list[float]], list[int]], Task]


def configure(method: str, steps: int = 1, rounds: int = 2, *overrides: str) -> RunConfig:
    return read_config(
        {
            "method": method,
            "task": {"clients": 2},
            "training": {"optimizer": "sgd", "lr": 0.5, "weight_decay": 0.0, "batch": 4, "steps": steps},
            "federation": {"rounds": rounds, "weighting": "uniform"},
        },
        overrides,
    )


def play(config: RunConfig, task: Task, start: float = 0.0) -> tuple[Server, InProcess, list[list[float]]]:
    """Run all rounds, and return the weights after each."""
    server, engine = Server(config, task), InProcess(Client(config, task))
    if server.has_model:
        server.state.slots["weights"] = {"w": torch.full((3,), start)}
    trace = []
    for round in range(1, config.federation.rounds + 1):
        orders = server.open(round)
        while orders:
            orders = server.close(in_order(orders, engine.exchange(orders)))
        trace.append(server.state.slots["weights"]["w"].tolist())
    return server, engine, trace


def test_fedavg_averages_the_updates(quadratic: MakeTask) -> None:
    # one step: client i is at t_i / 2; the mean is [2, 4, -4]; the next round halves the way to [4, 8, -8]
    *_, trace = play(configure("fedavg"), quadratic(TARGETS, [1, 1]))
    assert trace == [[2.0, 4.0, -4.0], [3.0, 6.0, -6.0]]


def test_fedavg_weights_clients_by_examples(quadratic: MakeTask) -> None:
    config = configure("fedavg", 1, 1, "federation.weighting=examples")
    *_, trace = play(config, quadratic(TARGETS, [3, 1]))
    assert trace == [[3.0, 2.0, -4.0]]


def test_fedprox_pulls_towards_the_received_model(quadratic: MakeTask) -> None:
    # mu = 1: first step as before, w = t/2; second: gradient (w - t) + (w - 0) = 0, so it stays at t/2
    config = configure("fedprox", 2, 1, "method.objective.mu=1.0")
    *_, trace = play(config, quadratic(TARGETS, [1, 1]))
    assert trace == [[2.0, 4.0, -4.0]]


def test_scaffold_by_hand(quadratic: MakeTask) -> None:
    # Round 1, c = c_i = 0, K = 2: y_i = 3/4 t_i; c_i = (0 - y_i) / (2 * 1/2) = -3/4 t_i; x = mean = [3, 6, -6];
    # c = mean c_i = [-3, -6, 6].
    # Round 2, from x: step y <- y - 1/2 (y - t_i - c_i + c). With s_i = t_i + c_i - c, y ends at s_i + (x - s_i)/4.
    # s_1 = [8,0,-8] + [-6,0,6] + [3,6,-6] = [5,6,-8]; s_2 = [0,16,-8] + [0,-12,6] + [3,6,-6] = [3,10,-8].
    # y_1 = [4.5, 6, -7.5]; y_2 = [3, 9, -7.5]; x = [3.75, 7.5, -7.5].
    # c_i+ = c_i - c + (x_old - y_i): c_1 = [-6,0,6]+[3,6,-6]+[-1.5,0,1.5] = [-4.5,6,1.5];
    #                                c_2 = [0,-12,6]+[3,6,-6]+[0,-3,1.5] = [3,-9,1.5]; c = [-0.75,-1.5,1.5].
    server, engine, trace = play(configure("scaffold", 2), quadratic(TARGETS, [1, 1]))
    assert trace == [[3.0, 6.0, -6.0], [3.75, 7.5, -7.5]]
    assert server.state.slots["control"]["w"].tolist() == [-0.75, -1.5, 1.5]
    assert engine.state_of(0).slots["control"]["w"].tolist() == [-4.5, 6.0, 1.5]
    assert engine.state_of(1).slots["control"]["w"].tolist() == [3.0, -9.0, 1.5]


def test_scaffold_divides_by_all_clients_and_not_by_the_cohort(quadratic: MakeTask) -> None:
    # one of two clients a round: c moves by |S|/N = 1/2 of its change
    config = configure("scaffold", 1, 1, "federation.cohort=1")
    server, _engine, trace = play(config, quadratic([TARGETS[0], TARGETS[0]], [1, 1]))
    assert trace == [[4.0, 0.0, -4.0]]
    assert server.state.slots["control"]["w"].tolist() == [-4.0, 0.0, 4.0]


def test_scaffold_keeps_the_mean_of_its_variates_under_a_lossy_codec(quadratic: MakeTask) -> None:
    targets = [[1.0, 0.3, -0.7], [0.1, 5.0, 0.9]]
    config = configure("scaffold", 3, 3, "method.uplink=int8")
    server, engine, _ = play(config, quadratic(targets, [1, 1]))
    own = torch.stack([engine.state_of(client).slots["control"]["w"] for client in (0, 1)])
    torch.testing.assert_close(server.state.slots["control"]["w"], own.mean(dim=0), rtol=1e-6, atol=1e-6)


def test_fedavgm_by_hand(quadratic: MakeTask) -> None:
    # beta = 1/2: v1 = d1 = [2,4,-4]; d2 = ([4,8,-8] - w1)/2 = [1,2,-2]; v2 = v1/2 + d2 = [2,4,-4]
    config = configure("fedavgm", 1, 2, "method.combine.beta=0.5")
    *_, trace = play(config, quadratic(TARGETS, [1, 1]))
    assert trace == [[2.0, 4.0, -4.0], [4.0, 8.0, -8.0]]


def test_diloco_outer_step_by_hand(quadratic: MakeTask) -> None:
    # Nesterov, beta = 1/2, rate 1: v1 = d1; w1 = 0 + d1 + v1/2 = [3,6,-6]; d2 = ([4,8,-8] - w1)/2 = [.5,1,-1];
    # v2 = v1/2 + d2 = [1.5,3,-3]; w2 = w1 + d2 + v2/2 = [4.25, 8.5, -8.5]
    overrides = ("method.combine.beta=0.5", "method.combine.rate=1.0", "training.keep_optimizer=false")
    *_, trace = play(configure("diloco", 1, 2, *overrides), quadratic(TARGETS, [1, 1]))
    assert trace == [[3.0, 6.0, -6.0], [4.25, 8.5, -8.5]]


@pytest.mark.parametrize("method", ["fedavgm", "diloco", "fedadam"])
def test_a_fragment_s_optimiser_steps_when_the_fragment_is_sent(quadratic: MakeTask, method: str) -> None:
    """One value per round, in turn: it changes as in rounds of all values; the others, and their memory, do not."""
    overrides = {
        "fedavgm": ("method.combine.beta=0.5",),
        "diloco": ("method.combine.beta=0.5", "method.combine.rate=1.0", "training.keep_optimizer=false"),
        "fedadam": ("method.combine.beta1=0.5", "method.combine.tau=2.0", "method.combine.rate=1.0"),
    }[method]
    *_, whole = play(configure(method, 1, 2, *overrides), quadratic(TARGETS, [1, 1]))
    parts = "method.uplink=fragment 3 by=size | fp32"
    *_, trace = play(configure(method, 1, 6, *overrides, parts), quadratic(TARGETS, [1, 1]))
    expected = [0.0, 0.0, 0.0]
    for round, weights in enumerate(trace):
        lap, place = divmod(round, 3)
        expected[place] = whole[lap][place]
        assert weights == pytest.approx(expected, rel=1e-6)


def test_fedadam_by_hand(quadratic: MakeTask) -> None:
    # d = [2,4,-4], beta1 = 0, beta2 = 3/4, tau = 2: v = 3/4 * 4 + 1/4 d^2 = [4,7,7]; w = d / (sqrt(v) + 2)
    overrides = ("method.combine.beta1=0.0", "method.combine.beta2=0.75", "method.combine.tau=2.0")
    config = configure("fedadam", 1, 1, *overrides, "method.combine.rate=1.0")
    server, _, trace = play(config, quadratic(TARGETS, [1, 1]))
    assert server.state.slots["second"]["w"].tolist() == [4.0, 7.0, 7.0]
    assert server.state.slots["momentum"]["w"].tolist() == [2.0, 4.0, -4.0]
    assert trace[0][0] == 0.5
    assert trace[0][1:] == pytest.approx([4 / (7**0.5 + 2), -4 / (7**0.5 + 2)], rel=1e-6)


def test_fedyogi_by_hand(quadratic: MakeTask) -> None:
    # as FedAdam, but v = tau^2 - (1 - beta2) d^2 sign(v - d^2): d^2 = [4,16,16], v = 4: [4, 4+4, 4+4]
    overrides = ("method.combine.beta1=0.0", "method.combine.beta2=0.75", "method.combine.tau=2.0")
    config = configure("fedyogi", 1, 1, *overrides, "method.combine.rate=1.0")
    server, _, trace = play(config, quadratic(TARGETS, [1, 1]))
    assert server.state.slots["second"]["w"].tolist() == [4.0, 8.0, 8.0]
    assert trace[0] == pytest.approx([0.5, 4 / (8**0.5 + 2), -4 / (8**0.5 + 2)], rel=1e-6)


def test_own_initialisations_are_averaged_naively(quadratic: MakeTask) -> None:
    config = configure("fedavg", 1, 1, "method.start=local")
    task = quadratic(TARGETS, [1, 1])
    _server, _engine, trace = play(config, task)
    own = [_own_start(config, task, client) for client in (0, 1)]
    expected = [sum((t[i] + w) / 2 for t, w in zip(TARGETS, own, strict=True)) / 2 for i in range(3)]
    assert trace == [expected]


def test_adopt_one_takes_the_client_with_most_examples_and_fetches_only_its_model(quadratic: MakeTask) -> None:
    config = configure("adopt-one", 1, 1)
    task = quadratic(TARGETS, [1, 2])
    server = Server(config, task)
    engine = InProcess(Client(config, task))
    first = server.open(1)
    assert sorted(first) == [0, 1]
    second = server.close(engine.exchange(first))
    assert sorted(second) == [1]
    assert not server.close(engine.exchange(second))
    own = _own_start(config, task, 1)
    assert server.state.slots["weights"]["w"].tolist() == [(t + own) / 2 for t in TARGETS[1]]
    assert len(server.result.reports) == 2


def _own_start(config: RunConfig, task: Task, client: int) -> float:
    """Return the value of all three parameters of a client's own initialisation."""
    model = task.build_model(derive(config.seed, "own-init", client))
    return parameters_of(model)["w"].tolist()[0]
