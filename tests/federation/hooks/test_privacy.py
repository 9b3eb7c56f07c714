"""Privacy: clipping and noise of updates, the budget, and that nothing else is sent."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from tests.stopped_runs import Stop, StopAfter

import onebasin as ob
from onebasin.core.norms import length
from onebasin.core.settings import ConfigError
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.hooks import privacy as privacy_module
from onebasin.federation.hooks.privacy import SECRET, budget, clipped, epsilon, noised, secret_of
from onebasin.federation.messages import Request, read_report
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.task import Task
from onebasin.methods.privacy_settings import Privacy
from onebasin.wire.message import decode_message

MakeTask = Callable[[list[list[float]], list[int]], Task]
MakeConfig = Callable[..., RunConfig]
TARGETS = [[6.0, 0.0, 8.0], [600.0, 0.0, 800.0]]


@pytest.fixture(autouse=True)
def accounted(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Replace the accountant, which rounds do not need; its results are tested where it is installed."""
    if "accountant" not in request.keywords:
        monkeypatch.setattr(privacy_module, "epsilon", lambda privacy, rounds: 1.0)


def configure(*overrides: str, **tables: Mapping[str, Any]) -> RunConfig:
    base = {
        "method": {"name": "fedavg", "privacy": {"clip": 5.0, "noise": 0.0}},
        "task": {"clients": 2},
        "training": {"lr": 0.5, "batch": 4, "steps": 1},
        "federation": {"rounds": 2, "weighting": "uniform"},
    }
    return read_config({**base, **tables}, overrides)


def first_round(config: RunConfig, task: Task) -> tuple[Server, InProcess, dict[int, bytes]]:
    server, engine = Server(config, task), InProcess(Client(config, task))
    server.state.slots["weights"] = {"w": torch.zeros(3)}
    replies = {client: reply for client, reply in engine.exchange(server.open(1)) if isinstance(reply, bytes)}
    server.close(list(replies.items()))
    return server, engine, replies


@pytest.mark.parametrize("where", ["client", "server"])
@pytest.mark.parametrize("uplink", ["fp32", "error-feedback | fp32"])
def test_updates_are_clipped_before_they_are_sent(quadratic: MakeTask, where: str, uplink: str) -> None:
    # updates [3, 0, 4] of norm 5 and [300, 0, 400] of norm 500: both are sent as [3, 0, 4]
    config = configure(f"method.privacy.at={where}", f"method.uplink={uplink}")
    server, _, replies = first_round(config, quadratic(TARGETS, [1, 3]))
    assert server.state.slots["weights"]["w"].tolist() == pytest.approx([3.0, 0.0, 4.0], abs=1e-6)
    assert server.result.failures == {} == server.result.remarks
    if uplink == "fp32":
        sent = server.protocol.uplink.receive(
            decode_message(replies[1]).require("update"), server._context(1, Request.TRAIN | Request.SEND_UPDATE)
        )
        assert sent["w"].tolist() == pytest.approx([3.0, 0.0, 4.0], abs=1e-6)


def test_a_server_that_adds_noise_clips_what_clients_did_not(quadratic: MakeTask) -> None:
    config = configure("method.privacy.at=server")
    server, _, replies = first_round(config, quadratic(TARGETS, [1, 1]))
    long = decode_message(replies[1])
    body = long.require("update")[:4] + torch.tensor([300.0, 0.0, 400.0]).numpy().tobytes()
    section = next(section for section in long.sections if section.name == "report")
    server.open(1)
    server.state.slots["weights"] = {"w": torch.zeros(3)}
    update = next(section for section in long.sections if section.name == "update")
    forged = server.protocol.write(1, 1, [section, type(update)(update.kind, "update", body)])
    server.close([(0, replies[0]), (1, forged)])
    assert server.state.slots["weights"]["w"].tolist() == pytest.approx([3.0, 0.0, 4.0], abs=1e-6)


def test_reports_contain_no_true_numbers(quadratic: MakeTask) -> None:
    _, _, replies = first_round(configure(), quadratic(TARGETS, [1, 3]))
    for reply in replies.values():
        report = read_report(decode_message(reply))
        assert (report.examples, report.steps) == (1, 0)
        assert math.isnan(report.loss)


def test_noise_is_normal_with_the_deviation_asked_for() -> None:
    zeros = {"w": torch.zeros(200, 300)}
    found = noised(zeros, 2.0, "00" * 32, 1)["w"].double()
    assert float(found.mean()) == pytest.approx(0.0, abs=4 * 2 / math.sqrt(60_000))
    assert float(found.std()) == pytest.approx(2.0, rel=0.02)
    assert float((found.abs() < 2.0).double().mean()) == pytest.approx(0.6827, abs=0.01)


def test_noise_follows_from_the_secret_and_from_what_it_is_added_to() -> None:
    update, other = {"w": torch.ones(8)}, {"w": torch.ones(8) * 2}
    one = noised(update, 1.0, "ab" * 32, 1)["w"]
    assert torch.equal(noised(update, 1.0, "ab" * 32, 1)["w"], one), "sent again, it tells nothing new"
    noises = [one - 1, noised(other, 1.0, "ab" * 32, 1)["w"] - 2, noised(update, 1.0, "ab" * 32, 2)["w"] - 1]
    noises.append(noised(update, 1.0, "cd" * 32, 1)["w"] - 1)
    for place, noise in enumerate(noises):
        assert all(not torch.allclose(noise, another, atol=1e-3) for another in noises[place + 1 :])


def test_a_secret_is_the_clients_own_and_kept(quadratic: MakeTask) -> None:
    config = configure("method.privacy.noise=1.0")
    runs = [first_round(config, quadratic(TARGETS, [1, 1])) for _ in range(2)]
    secrets = [engine.state_of(client).facts[SECRET] for _, engine, _ in runs for client in (0, 1)]
    assert len(set(secrets)) == 4, "not even equal runs share one"
    assert runs[0][2] != runs[1][2]
    _, engine, replies = runs[0]
    assert not any(bytes.fromhex(secret) in reply for secret in secrets for reply in replies.values())
    assert SECRET not in runs[0][0].state.facts
    server = Server(config, quadratic(TARGETS, [1, 1]))
    server.state.slots["weights"] = {"w": torch.zeros(3)}
    again = dict(engine.exchange(server.open(1)))
    assert again == replies, "the same order of the same round gets the same answer"


def test_noise_from_the_run_s_seed_is_repeatable_and_differs_between_clients(quadratic: MakeTask) -> None:
    config = configure("method.privacy.noise=1.0", "method.privacy.seeding=run")
    one, other = (first_round(config, quadratic([[6.0, 0.0, 8.0]] * 2, [1, 1]))[2] for _ in range(2))
    assert one == other
    assert decode_message(one[0]).require("update") != decode_message(one[1]).require("update")


def test_the_server_adds_noise_to_the_sum(quadratic: MakeTask) -> None:
    config = configure("method.privacy.at=server", "method.privacy.noise=3.0", "method.privacy.seeding=run")
    server, _, _ = first_round(config, quadratic([[6.0, 0.0, 8.0]] * 2, [1, 1]))
    secret = secret_of({}, config.method.privacy or Privacy(clip=1.0, noise=0.0), config.seed, "server")
    summed = {"w": torch.tensor([6.0, 0.0, 8.0], dtype=torch.float64)}
    expected = noised(summed, 15.0, secret, 1)["w"] / 2
    assert server.state.slots["weights"]["w"].tolist() == pytest.approx(expected.tolist(), rel=1e-6)


@pytest.mark.parametrize("where", ["client", "server"])
def test_a_resumed_run_has_the_noise_of_an_uninterrupted_one(
    quick_config: MakeConfig, tmp_path: Path, where: str
) -> None:
    settings = ("method.privacy={clip=1.0, noise=0.1}", f"method.privacy.at={where}", "federation.weighting=uniform")
    config = quick_config("fedavg", *settings, "federation.rounds=4")
    with pytest.raises(Stop):
        ob.run(config, out=tmp_path / "run", observers=[StopAfter(2)])
    result = ob.run(config, resume=tmp_path / "run")
    assert result.summary["privacy"] == {"epsilon": 1.0, "delta": 1e-5, "rounds": 4, "noise": where}
    assert result.history[0]["train_loss"] is None


def test_clipping_by_hand() -> None:
    long = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}
    assert length(clipped(long, Privacy(clip=1.0, noise=0.0))) == pytest.approx(1.0)
    assert clipped(long, Privacy(clip=6.0, noise=0.0)) is long


def test_a_budget_counts_the_rounds_of_the_client_that_took_part_most_often() -> None:
    assert budget(configure(), 2, 7) == {"epsilon": None, "delta": 1e-5, "rounds": 7, "noise": "client"}
    noisy = configure("method.privacy.noise=2.0")
    assert budget(noisy, 2, 7) == {"epsilon": 1.0, "delta": 1e-5, "rounds": 7, "noise": "client"}
    some = configure(task={"clients": 10}, federation={"rounds": 20, "cohort": 2, "weighting": "uniform"})
    found = budget(some, 10, 20)
    assert found is not None
    assert 4 <= found["rounds"] < 20
    assert budget(read_config("fedavg"), 10, 20) is None


@pytest.mark.parametrize(
    ("method", "overrides", "message"),
    [
        ("fedavg", ("method.start=local",), "start='local' sends more than updates to a common model"),
        ("adopt-one", (), "privacy: start='local' sends more"),
        ("scaffold", (), "objective='control-variates' and combine='average' send others or more"),
        ("fedpm", (), "uplink='mask'"),
        ("fedavg", ("method.combine=least-squares",), "combine='least-squares' send others or more"),
        ("fedavg", ("method.combine=median", "method.privacy.at=server"), "adds noise to a sum, and combine='median'"),
        (
            "fedavg",
            ("method.privacy.at=server", "federation.weighting=examples"),
            "use federation.weighting",
        ),
        ("stc", ("method.downlink=relay",), "downlink='relay' has clients combine what was sent as it is"),
        ("fedavg", ("method.privacy.clip=0.0",), r"privacy\.clip: got 0\.0; input should be greater than 0"),
    ],
)
def test_choices_that_send_more_than_updates_are_refused(method: str, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(method, ["method.privacy={clip=1.0, noise=1.0}", *overrides])


def test_statistics_of_batchnorm_are_refused(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("fedavg", "task.model.norm=batch", "method.privacy={clip=1.0, noise=1.0}")
    with pytest.raises(ConfigError, match=r"has 3 buffers \(BatchNorm's statistics\), which travel as they are"):
        ob.run(config, out=tmp_path / "run")


def exact_epsilon(noise: float, rounds: int, delta: float) -> float:
    """Balle, Wang: Improving the Gaussian Mechanism. ICML 2018, theorem 8, for sensitivity 2 and all rounds in one."""
    s = noise / 2 / math.sqrt(rounds)

    def beyond(eps: float) -> float:
        return float(norm.cdf(1 / (2 * s) - eps * s) - math.exp(eps) * norm.cdf(-1 / (2 * s) - eps * s)) - delta

    return float(brentq(beyond, 0.0, 500.0))


@pytest.mark.accountant
@pytest.mark.parametrize(("noise", "rounds"), [(4.0, 1), (8.0, 20), (40.0, 20)])
def test_the_accountant_agrees_with_the_exact_formula(noise: float, rounds: int) -> None:
    pytest.importorskip("dp_accounting")
    found = epsilon(Privacy(clip=3.0, noise=noise), rounds)
    assert found == pytest.approx(exact_epsilon(noise, rounds, 1e-5), rel=0.01)


@pytest.mark.accountant
def test_without_noise_epsilon_is_infinite() -> None:
    pytest.importorskip("dp_accounting")
    assert epsilon(Privacy(clip=1.0, noise=0.0), 3) == math.inf


@pytest.mark.accountant
def test_a_run_without_its_accountant_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dp_accounting", None)
    with pytest.raises(ConfigError, match=r"pip install 'onebasin\[privacy\]'"):
        epsilon(Privacy(clip=1.0, noise=1.0), 1)
