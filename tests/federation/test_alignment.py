"""Federations of clients with own initialisations: neuron orders, joins, messages, client states."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.stopped_runs import Stop, StopWithin, assert_same_run
from torch import Tensor, nn

import onebasin as ob
from onebasin.alignment.forward_hooks import forward
from onebasin.core.clients import Failure
from onebasin.core.settings import ConfigError
from onebasin.core.state import State
from onebasin.federation.client.client import Client
from onebasin.federation.client.starting_point import ORDER_FACT as FRAME
from onebasin.federation.engines.single import InProcess
from onebasin.federation.neuron_messages import NewOrder
from onebasin.federation.read_config import read_config
from onebasin.federation.round_loop import in_order
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.data.load import Dataset, Split
from onebasin.learning.load_task import load_task
from onebasin.learning.task import Task
from onebasin.wire.message import Section, decode_message, encode_message
from onebasin.wire.permutations import coded_bytes

MakeConfig = Callable[..., RunConfig]
INPUTS = torch.randn(120, 5, generator=torch.Generator().manual_seed(0))


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))


class Permuted(Task):
    """Every seed but 0 gives the same network in another neuron order."""

    def build_model(self, seed: int) -> nn.Module:
        model = network(1)
        if seed:
            spec = ob.find_permutations(model, INPUTS[:2])
            model.load_state_dict(spec.apply(model.state_dict(), spec.random(seed)))
        return model


def permuted_task(clients: int = 4) -> Task:
    split = Split(INPUTS, torch.randint(3, (120,), generator=torch.Generator().manual_seed(1)), None)
    dataset = Dataset("made", split, split, ("a", "b", "c"), (), 0, "test")
    return Permuted(dataset, list(torch.arange(120).split(120 // clients)), "made", {})


def still(*overrides: str, rounds: int = 1) -> RunConfig:
    """Return a configuration whose training hardly changes the weights."""
    return read_config(
        {
            "method": {"name": "fedavg", "start": "local"},
            "training": {"lr": 1e-9, "steps": 1},
            "federation": {"rounds": rounds},
            "task": {"clients": 4},
        },
        overrides,
    )


def play(config: RunConfig, task: Task) -> tuple[Server, InProcess]:
    server, engine = Server(config, task), InProcess(Client(config, task))
    for round in range(1, config.federation.rounds + 1):
        orders = server.open(round)
        while orders:
            orders = server.close(in_order(orders, engine.exchange(orders)))
        assert not server.result.failures
    return server, engine


def outputs(server: Server) -> Tensor:
    return forward(network(1), server.state.slots["weights"], INPUTS)


EXPECTED = forward(network(1), network(1).state_dict(), INPUTS)


@pytest.mark.parametrize(
    "choices",
    [
        ("method.frame=weights",),
        ("method.frame=weights", "method.alignment.refine=true"),
        ("method.frame=activations",),
        ("method.frame=signatures",),
        ("method.frame=signatures", "method.repair=repair", "method.probes=noise"),
        ("method.frame=weights", "method.combine=least-squares", "method.combine.targets=mean", "method.probes=noise"),
    ],
)
def test_models_that_differ_only_in_neuron_order_merge_into_that_model(choices: tuple[str, ...]) -> None:
    server, _ = play(still(*choices), permuted_task())
    torch.testing.assert_close(outputs(server), EXPECTED, rtol=1e-2, atol=2e-3)


def test_clients_measure_statistics_on_their_own_examples() -> None:
    """They differ a little from those on the probe inputs, and so do the repaired models."""
    told = ("method.repair=rescale", "method.repair_targets=clients", "method.probes=noise")
    server, _ = play(still("method.frame=weights", *told), permuted_task())
    torch.testing.assert_close(outputs(server), EXPECTED, rtol=0.1, atol=0.05)


def test_without_alignment_they_merge_into_another_model() -> None:
    server, _ = play(still(), permuted_task())
    assert float((outputs(server) - EXPECTED).norm()) > 0.3 * float(EXPECTED.norm())


@pytest.mark.parametrize("frame", ["weights", "activations", "signatures"])
def test_a_model_that_joins_later_is_brought_into_the_common_order(frame: str) -> None:
    config = still(f"method.frame={frame}", "federation.late=1", "federation.join_round=3", rounds=4)
    server, engine = play(config, permuted_task())
    torch.testing.assert_close(outputs(server), EXPECTED, rtol=1e-2, atol=2e-3)
    assert server.state.facts["merged"] == [0, 1, 2, 3]
    assert server.state.facts["met"] == [0, 1, 2, 3], "and gets the common model in the round after"
    assert "weights" not in engine.state_of(3).slots


def test_a_model_that_joins_is_weighted_by_its_examples() -> None:
    """Two clients have one model; a third, with as many examples as both, joins with another: the mean is halfway."""
    task = permuted_task(4)
    task.parts[:] = [torch.arange(20), torch.arange(20, 40), torch.arange(40, 80)]
    config = still("method.frame=weights", "federation.late=1", "federation.join_round=2", "task.clients=3", rounds=2)
    server, engine = Server(config, task), InProcess(Client(config, task))
    server.close(engine.exchange(server.open(1)))
    before = {name: value.clone() for name, value in server.state.slots["weights"].items()}
    orders = server.open(2)
    client = Client(config, task)
    work = client.begin(2, State(), orders[2])
    doubled = {name: 2 * value for name, value in work.start.weights.items()}
    engine._states[2] = State({"weights": doubled, "buffers": {}})
    server.close(engine.exchange(orders))
    spec = server.protocol.neurons.spec
    joiner = spec.apply(doubled, ob.match(spec, before, doubled))
    for name, value in server.state.slots["weights"].items():
        torch.testing.assert_close(value, (before[name] + joiner[name]) / 2, rtol=1e-4, atol=1e-5)


def test_the_bytes_of_alignment_are_exact(quick_config: MakeConfig, tmp_path: Path) -> None:
    local = ("method.start=local", "federation.rounds=1")
    plain = ob.run(quick_config("fedavg", *local), out=tmp_path / "plain").summary["bytes"]
    assert plain["align"] == 0
    signed = ob.run(quick_config("fedavg", *local, "method.frame=signatures"), out=tmp_path / "signed")
    signatures = 1 + 2 + 4 + 64 * 128 * 4 // 8
    permutation = 1 + 1 + 4 + 4 + coded_bytes([64])
    assert signed.summary["bytes"]["align"] == 4 * (signatures + permutation)
    sketched = ob.run(quick_config("fedavg", *local, "method.combine=least-squares"), out=tmp_path / "sketched")
    sketch = 1 + 2 + 12 + 4 * 10 + 21 * (4 + 4 * 4)
    assert sketched.summary["bytes"]["align"] == 4 * sketch
    told = ("method.frame=weights", "method.repair=repair", "method.repair_targets=clients", "method.probes=noise")
    repaired = ob.run(quick_config("fedavg", *local, *told), out=tmp_path / "repaired").summary["bytes"]
    assert repaired["align"] == 4 * (1 + 2 + 4 + 2 * 64 * 4)


def test_a_clients_state_is_permuted_with_its_neurons() -> None:
    config = still("method.frame=weights", "training.keep_optimizer=true")
    framing = Server(config, permuted_task()).protocol.neurons
    weights = dict(network(3).state_dict())
    momenta = {f"{name}:momentum_buffer": 2 * value for name, value in weights.items()}
    steps = {f"{name}:step": torch.tensor(5.0) for name in weights}
    state = State({"weights": weights, "optimizer": momenta | steps, "residual": weights}, {"note": 1})
    perms = framing.spec.random(2)
    moved = framing.permuted(state, perms)
    expected = framing.spec.apply(weights, perms)
    for name in weights:
        assert torch.equal(moved.slots["weights"][name], expected[name])
        assert torch.equal(moved.slots["residual"][name], expected[name])
        assert torch.equal(moved.slots["optimizer"][f"{name}:momentum_buffer"], 2 * expected[name])
        assert torch.equal(moved.slots["optimizer"][f"{name}:step"], torch.tensor(5.0))
    assert moved.facts == {"note": 1}


def test_momenta_are_permuted_into_the_common_order() -> None:
    """With ``frame="weights"`` the next request has the permutations, which the client applies to its momenta."""
    keep = ("training.keep_optimizer=true", "training.momentum=0.9", "training.lr=0.01")
    config = still("method.frame=weights", *keep, rounds=2)
    task = permuted_task()
    server, engine = Server(config, task), InProcess(Client(config, task))
    server.close(engine.exchange(server.open(1)))
    spec = server.protocol.neurons.spec
    momenta = {client: dict(engine.state_of(client).slots["optimizer"]) for client in range(4)}
    frames = {client: server.state.slots[f"frame/{client}"] for client in range(4)}
    orders = server.open(2)
    for client, order in orders.items():
        work = Client(config, task).begin(client, engine.state_of(client), order)
        expected = spec.apply({n.partition(":")[0]: v for n, v in momenta[client].items()}, frames[client])
        for name, value in expected.items():
            assert torch.equal(work.start.optimizer[f"{name}:momentum_buffer"], value)
    server.close(engine.exchange(orders))
    assert not [slot for slot in server.state.slots if slot.startswith("frame/")]
    assert engine.state_of(0).facts[FRAME] == 1


def test_a_neuron_order_that_is_sent_twice_is_applied_once() -> None:
    config = still("method.frame=signatures")
    task = permuted_task()
    client, server = Client(config, task), Server(config, task)
    engine = InProcess(client)
    orders = server.close(engine.exchange(server.open(1)))
    kept = engine.state_of(1)
    first = client.begin(1, kept, orders[1])
    after, _ = client.finish(kept, client.train(first))
    second = client.begin(1, after, orders[1])
    assert all(torch.equal(first.start.weights[n], second.start.weights[n]) for n in first.start.weights)
    assert not torch.equal(kept.slots["weights"]["0.weight"], after.slots["weights"]["0.weight"])


def test_a_client_that_drops_out_between_signature_and_model_joins_in_a_later_round() -> None:
    config = still("method.frame=signatures", rounds=2)
    task = permuted_task()
    server, engine = Server(config, task), InProcess(Client(config, task))
    orders = server.close(engine.exchange(server.open(1)))

    def without_the_last(orders: Mapping[int, bytes]) -> Iterator[tuple[int, bytes | Failure]]:
        yield from engine.exchange({c: o for c, o in orders.items() if c != 3})
        yield 3, Failure("dropped out")

    assert not server.close(without_the_last(orders))
    assert server.state.facts["merged"] == [0, 1, 2]
    assert "frame/3" in server.state.slots
    orders = server.open(2)
    while orders:
        orders = server.close(in_order(orders, engine.exchange(orders)))
    assert server.state.facts["merged"] == [0, 1, 2, 3]
    torch.testing.assert_close(outputs(server), EXPECTED, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize(
    ("engine", "choices"),
    [
        ("single", ("frame=signatures", "combine=least-squares", "combine.distil=3", "probes.count=40")),
        ("pool", ("frame=signatures", "repair=repair", "repair_targets=clients", "probes=noise")),
        ("single", ("frame=weights",)),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    engine: str, choices: tuple[str, ...], quick_config: MakeConfig, tmp_path: Path
) -> None:
    settings = (f"engine.kind={engine}", "engine.workers=2", "training.keep_optimizer=true", "training.momentum=0.5")
    late = ("federation.late=1", "federation.join_round=3", "federation.rounds=4", "method.start=local")
    config = quick_config("fedavg", *settings, *late, *(f"method.{choice}" for choice in choices))
    whole = ob.run(config, ["engine.kind=single"], out=tmp_path / "whole")
    for after in (1, 2):
        cut = tmp_path / f"cut{after}"
        with pytest.raises(Stop):
            ob.run(config, out=cut, observers=[StopWithin(after + 1)])
        ob.run(config, resume=cut)
        assert_same_run(whole.directory, cut)


def test_reused_phases_change_nothing(
    quick_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick_config("scaffold", "training.momentum=0.0")
    plain = ob.run(config, out=tmp_path / "plain")
    monkeypatch.setenv("ONEBASIN_REUSE", str(tmp_path / "reuse"))
    first = ob.run(config, out=tmp_path / "first")
    kept = sorted((tmp_path / "reuse").iterdir())
    assert len(kept) == 12
    again = ob.run(config, out=tmp_path / "again")
    assert sorted((tmp_path / "reuse").iterdir()) == kept
    kept[0].write_bytes(b"damaged")
    mended = ob.run(config, out=tmp_path / "mended")
    for run in (first, again, mended):
        assert_same_run(plain.directory, run.directory)
    ob.run(quick_config("scaffold", "training.lr=0.06"), out=tmp_path / "other")
    assert len(list((tmp_path / "reuse").iterdir())) == 24


def test_warm_up_has_its_own_number_of_epochs() -> None:
    task = permuted_task()
    config = still("method.frame=weights", "training.warmup=3", "training.batch=10", rounds=2)
    server, engine = Server(config, task), InProcess(Client(config, task))
    server.close(engine.exchange(server.open(1)))
    assert {report.steps for report in server.result.reports.values()} == {9}
    server.close(engine.exchange(server.open(2)))
    assert {report.steps for report in server.result.reports.values()} == {1}


def test_later_examples_replace_the_earlier_ones() -> None:
    task = replace(permuted_task(), later=0.1)
    for client, part in enumerate(task.parts):
        first, second = task.examples(client, own_model=True), task.examples(client, own_model=False)
        assert (len(first), len(second)) == (27, 3)
        assert torch.equal(torch.cat([first, second]).sort().values, part)
        assert torch.equal(task.examples(client, own_model=True), first)
    config = still("method.frame=weights", "training.batch=9", rounds=3)
    config = config.model_copy(update={"training": config.training.model_copy(update={"steps": None})})
    server, engine = Server(config, task), InProcess(Client(config, task))
    for round, (examples, steps) in enumerate([(27, 3), (3, 1), (3, 1)], start=1):
        orders = server.open(round)
        while orders:
            orders = server.close(in_order(orders, engine.exchange(orders)))
        assert {(report.examples, report.steps) for report in server.result.reports.values()} == {(examples, steps)}


@pytest.mark.parametrize(("size", "sizes"), [(0, (0, 0)), (1, (0, 1)), (2, (1, 1)), (30, (1, 29))])
def test_a_client_with_two_examples_has_one_at_each_time(size: int, sizes: tuple[int, int]) -> None:
    task = replace(permuted_task(), later=0.99)
    task = replace(task, parts=[part[:size] for part in task.parts])
    assert (len(task.examples(0, own_model=True)), len(task.examples(0, own_model=False))) == sizes


def test_pooled_data_have_all_examples(quick_config: MakeConfig) -> None:
    task = load_task(quick_config("centralised", "task.later=0.1"))
    assert len(task.examples(0, own_model=True)) == len(task.dataset.train)
    task = load_task(quick_config("fedavg", "task.later=0.1"))
    assert 0 < len(task.examples(0, own_model=False)) < 0.2 * len(task.parts[0]) + 1


def test_references_score_the_best_client_and_the_ensemble(quick_config: MakeConfig, tmp_path: Path) -> None:
    one = ("federation.rounds=1",)
    mean, best, together = (
        ob.run(quick_config(method, *one), out=tmp_path / method).summary["accuracy"]["final"]
        for method in ("local-only", "best-client", "ensemble")
    )
    assert mean < best
    assert mean < together


REPLY_KINDS = still(
    "method.frame=signatures",
    "method.combine=least-squares",
    "method.repair=repair",
    "method.repair_targets=clients",
    "method.probes.count=30",
    "method.probes.rank=3",
)


@given(st.data())
def test_altered_sections_are_failures_or_harmless(data: st.DataObject) -> None:
    """Well-formed messages with changed bodies: all sections that alignment adds, in both exchanges."""
    task = permuted_task()
    server, engine = Server(REPLY_KINDS, task), InProcess(Client(REPLY_KINDS, task))

    def altered(orders: Mapping[int, bytes]) -> Iterator[tuple[int, bytes | Failure]]:
        for client, reply in engine.exchange(orders):
            assert isinstance(reply, bytes)
            message = decode_message(reply)
            sections = list(message.sections)
            if client == 1:
                place = data.draw(st.integers(0, len(sections) - 1))
                body = bytearray(sections[place].body)
                if data.draw(st.booleans()):
                    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
                else:
                    body = body[: data.draw(st.integers(0, len(body)))]
                sections[place] = Section(sections[place].kind, sections[place].name, bytes(body))
            yield client, encode_message(message.run, message.round, message.sender, sections)

    orders = server.open(1)
    while orders:
        orders = server.close(altered(orders))
    assert set(server.result.failures) <= {1}
    assert all(bool(torch.isfinite(w).all()) for w in server.state.slots["weights"].values())


def test_a_neuron_order_is_decoded_whatever_the_workspace_has() -> None:
    keep = ("training.keep_optimizer=true", "training.momentum=0.9")
    config, task = still("method.frame=weights", *keep, rounds=2), permuted_task()
    server, engine = Server(config, task), InProcess(Client(config, task))
    server.close(engine.exchange(server.open(1)))
    client = Client(config, task)
    for parameter in client.model.parameters():
        parameter.data.fill_(float("nan"))
    assert client.begin(1, engine.state_of(1), server.open(2)[1]).order is not None


@given(st.data())
def test_altered_permutations_are_failures_and_change_nothing(data: st.DataObject) -> None:
    config = still("method.frame=signatures")
    task = permuted_task()
    server, engine = Server(config, task), InProcess(Client(config, task))
    order = server.close(engine.exchange(server.open(1)))[0]
    message = decode_message(order)
    sections = [
        Section(s.kind, s.name, s.body[: data.draw(st.integers(0, len(s.body) - 1))]) if s.name == "permutation" else s
        for s in message.sections
    ]
    before = engine.state_of(0)
    answer = engine.answer(0, encode_message(message.run, message.round, message.sender, sections))
    assert isinstance(answer, Failure)
    assert engine.state_of(0) is before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("method.frame=weights",), "frame='weights' with start='broadcast' has nothing to align"),
        (("method.start=local", "method.frame=wieghts"), "method.frame: got 'wieghts'"),
        (("method.probes=public", "method.repair=repair"), "set task.public to how many there are"),
        (("method.start=local", "method.frame=signatures", "method.alignment.bits=9"), "alignment.bits: got 9"),
        (("federation.late=10",), "federation.late=10 leaves none of task.clients=10"),
        (("method.score=best",), "score='best' is for clients that keep their models"),
        (("method.combine=least-squares", "method.combine.ridge=0"), "combine.*ridge: got 0"),
        (
            ("method.start=local", "method.frame=signatures", "method.alignment.every_round=true"),
            "alignment.every_round needs frame='weights'",
        ),
        (
            ("method.start=local", "method.frame=weights", "method.objective=control-variates", "training.momentum=0"),
            "frame='weights' and objective='control-variates' exclude each other",
        ),
    ],
)
def test_choices_that_exclude_each_other_are_named(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config("fedavg", overrides)


def test_data_that_cannot_be_sketched_and_models_without_neurons_are_named(tmp_path: Path) -> None:
    flat: dict[str, Any] = {"task": {"model": {"kind": "mlp", "hidden": []}}}
    with pytest.raises(ConfigError, match="the model has no neurons to permute"):
        ob.run({"method": {"name": "fedavg", "start": "local", "frame": "weights"}, **flat}, out=tmp_path / "a")
    with pytest.raises(ValueError, match=r"task\.public=5000 leaves none of 1437 training examples"):
        ob.run("fedavg", ["task.public=5000"], out=tmp_path / "b")


def test_no_client_has_the_public_examples() -> None:
    config = read_config("fedavg", ["task.public=37", "task.partition=iid"])
    task = load_task(config)
    assert task.public is not None
    assert task.public.shape == (37, 1, 8, 8) or task.public.shape[0] == 37
    assert sum(len(part) for part in task.parts) == 1400 == len(task.dataset.train)
    known = {tuple(row.flatten().tolist()) for row in task.dataset.train.inputs}
    assert sum(tuple(row.flatten().tolist()) in known for row in task.public) <= 1  # scans may repeat


def test_neuron_orders_are_decoded_as_they_were_encoded() -> None:
    framing = Server(still("method.frame=weights"), permuted_task()).protocol.neurons
    perms = framing.spec.random(4)
    body = framing.write_permutations(NewOrder(7, perms))
    assert len(body) == 4 + 4 + coded_bytes([16, 12])
    found = framing.read_permutations(body)
    assert found.number == 7
    assert all(torch.equal(found.perms[group], perms[group]) for group in perms)


def test_least_squares_can_stop_after_some_rounds(quick_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """As many rounds as it is used for equal those of a run that always uses it; the later ones differ."""
    choose = ("method.combine=least-squares", "method.probes=noise", "method.probes.count=50")
    weights = {}
    for rounds in (0, 1, 2):
        result = ob.run(quick_config("fedavg", *choose, f"method.combine.rounds={rounds}"), out=tmp_path / str(rounds))
        weights[rounds] = [line["loss"] for line in result.history]
    assert weights[1][0] == weights[0][0]
    assert weights[2][:2] == weights[0][:2]
    assert weights[1][1] != weights[0][1]


def test_least_squares_can_be_limited_to_new_models(quick_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """All clients join in round 1 but one, which joins in round 3; in rounds 2 and 4 there are no new models."""
    own = ("method.start=local", "method.frame=weights", "method.probes=noise", "method.probes.count=50")
    late = ("federation.late=1", "federation.join_round=3", "federation.rounds=4", "method.combine=least-squares")
    ways = {"meetings": "meetings", "all": "0", "first": "1"}
    losses = {}
    for way, rounds in ways.items():
        config = quick_config("fedavg", *own, *late, f"method.combine.rounds={rounds}")
        losses[way] = [line["loss"] for line in ob.run(config, out=tmp_path / way).history]
    assert losses["meetings"][0] == losses["all"][0]
    assert losses["meetings"][:2] == losses["first"][:2]
    assert losses["meetings"][1] != losses["all"][1]
    assert losses["meetings"][2] != losses["first"][2]
    shared = quick_config("fedavg", "method.combine=least-squares", "method.combine.rounds=meetings", *own[2:])
    average = quick_config("fedavg", *own[2:])
    found = [ob.run(each, out=tmp_path / str(n)).history[-1]["loss"] for n, each in enumerate((shared, average))]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_balanced_merge_has_the_same_outputs_and_other_weights(
    quick_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    choose = ("method.combine=least-squares", "method.probes=noise", "method.probes.count=50", "federation.rounds=2")
    losses, models = {}, {}
    for balanced in ("false", "true"):
        config = quick_config("fedavg", *choose, f"method.combine.balance={balanced}")
        result = ob.run(config, out=tmp_path / balanced)
        losses[balanced] = [line["loss"] for line in result.history]
        models[balanced] = result.model
    assert losses["true"][0] == pytest.approx(losses["false"][0], rel=1e-4)
    assert losses["true"][1] != pytest.approx(losses["false"][1], rel=1e-4)
    assert models["true"] is not None
    into, out = models["true"].fc1, models["true"].fc2
    before, after = into.weight.square().sum(1) + into.bias.square(), out.weight.square().sum(0)
    torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-6)
