"""Nodes without Flower: the same bytes as in process, whatever is lost, repeated or late."""

import runpy
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch

import onebasin as ob
from onebasin.apps import run as launch
from onebasin.apps.flower.node import Node
from onebasin.apps.flower.states import StateLost, States
from onebasin.core.clients import Failure
from onebasin.core.settings import ConfigError
from onebasin.core.state import State
from onebasin.federation.engines.flower import NodeReply, NodeRequest
from onebasin.federation.run_config import RunConfig
from onebasin.learning.data.load import Split, load_dataset
from onebasin.learning.load_task import load_task
from onebasin.results.run_directory import RunDirectoryError

MakeConfig = Callable[..., RunConfig]
EXAMPLE = Path(__file__).parents[3] / "deploy" / "example"


class Loopback:
    """A SuperLink whose nodes are in this process, each with a folder. dies_after: requests until it fails."""

    def __init__(self, config: RunConfig, folder: Path, dies_after: int = 10**9, data: Mapping[int, str] = {}) -> None:
        self.config, self.left = config, dies_after
        self.hosts = {100 + c: Node(c, folder / str(c), data.get(c, "")) for c in range(config.task.clients)}
        self.done: list[NodeReply] = []
        self.requests: list[NodeRequest] = []

    def nodes(self) -> list[int]:
        return list(self.hosts)

    def push(self, requests: list[NodeRequest], seconds: float) -> list[str]:
        messages = []
        for request in requests:
            message = str(len(self.requests))
            messages.append(message)
            self.requests.append(request)
            node = self.hosts[request.node]
            if request.client is None:
                self.done.append(NodeReply(message, b"", node.client))
                continue
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            content, digest = node.answer(self.config, request.payload, request.digest)
            self.done.append(NodeReply(message, content, node.client, digest))
        return messages

    def pull(self, messages: list[str]) -> Iterator[NodeReply]:
        done, self.done = self.done, []
        yield from done


STATEFUL = [
    ("fedavg", ()),
    ("scaffold", ()),
    ("stc", ()),
    ("fedavg", ("method.start=local", "method.frame=signatures", "training.keep_optimizer=true")),
]


def same(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in ("model.safetensors", "ledger.csv"))


@pytest.mark.parametrize(("method", "overrides"), STATEFUL)
def test_a_run_over_nodes_equals_one_in_process_bit_for_bit(
    method: str, overrides: tuple[str, ...], quick_config: MakeConfig, tmp_path: Path
) -> None:
    expected = ob.run(quick_config(method, *overrides), out=tmp_path / "single")
    config = quick_config(method, *overrides, "engine=flower")
    found = ob.run(config, out=tmp_path / "flower", link=Loopback(config, tmp_path))
    assert same(tmp_path / "single", tmp_path / "flower")
    assert found.summary["bytes"] == expected.summary["bytes"]
    assert found.summary["accuracy"] == expected.summary["accuracy"]


@pytest.mark.parametrize(("method", "overrides"), STATEFUL)
@pytest.mark.parametrize("dies_after", [2, 6, 11])
def test_a_server_that_was_killed_in_a_round_resumes_though_clients_are_ahead(
    method: str, overrides: tuple[str, ...], dies_after: int, quick_config: MakeConfig, tmp_path: Path
) -> None:
    ob.run(quick_config(method, *overrides), out=tmp_path / "single")
    config = quick_config(method, *overrides, "engine=flower")
    with pytest.raises(KeyboardInterrupt):
        ob.run(config, out=tmp_path / "flower", link=Loopback(config, tmp_path, dies_after))
    ob.run(config, resume=tmp_path / "flower", link=Loopback(config, tmp_path))
    assert same(tmp_path / "single", tmp_path / "flower")


def test_a_run_is_repeated_with_old_states_on_the_nodes(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("scaffold", "engine=flower")
    for name in ("first", "second"):
        ob.run(config, out=tmp_path / name, link=Loopback(config, tmp_path))
    assert same(tmp_path / "first", tmp_path / "second")


def test_a_node_keeps_few_states(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("scaffold", "engine=flower", "federation.rounds=6")
    ob.run(config, out=tmp_path / "run", link=Loopback(config, tmp_path))
    assert len(list((tmp_path / "0").rglob("*.safetensors"))) == 2


@pytest.mark.parametrize("method", ["scaffold", "stc"])
def test_a_node_that_lost_its_state_fails_once_and_starts_from_an_empty_one(
    method: str, quick_config: MakeConfig, tmp_path: Path
) -> None:
    config = quick_config(method, "engine=flower", "federation.rounds=5")

    class Forgetful:
        """Deletes the states of a node after round 2."""

        def on_reply(self, round: int, answered: int, asked: int) -> None: ...

        def on_round(self, record: Mapping[str, object]) -> None:
            if record["round"] == 2:
                for path in (tmp_path / "1").rglob("*.safetensors"):
                    path.unlink()

    result = ob.run(config, out=tmp_path / "run", link=Loopback(config, tmp_path), observers=[Forgetful()])
    failures = [(r["round"], f["client"]) for r in result.history for f in r["failures"]]
    assert failures == [(3, 1)]
    assert "this node has no state" in result.history[2]["failures"][0]["reason"]


def test_a_run_cannot_be_resumed_with_an_engine_that_cannot_read_its_client_states(
    quick_config: MakeConfig, tmp_path: Path
) -> None:
    config = quick_config("scaffold", "engine=flower")
    ob.run(config, out=tmp_path / "flower", link=Loopback(config, tmp_path))
    ob.run(quick_config("scaffold"), out=tmp_path / "single")
    with pytest.raises(
        RunDirectoryError, match="what clients remember is on Flower's nodes; engine='single' has no way"
    ):
        ob.run(quick_config("scaffold"), resume=tmp_path / "flower")
    with pytest.raises(RunDirectoryError, match="in the run directory; engine='flower' has no way"):
        ob.run(config, resume=tmp_path / "single", link=Loopback(config, tmp_path))


def test_the_state_before_a_round_is_kept_until_the_next_round(tmp_path: Path) -> None:
    states = States(tmp_path)

    def state(value: float) -> State:
        return State({"weights": {"w": torch.tensor([value])}})

    first = states.save(1, "", state(1.0))
    second = states.save(2, first, state(2.0))
    third = states.save(2, second, state(3.0))  # a second request in the same round
    for digest, value in ((first, 1.0), (second, 2.0), (third, 3.0)):
        assert states.read(digest).slots["weights"]["w"].item() == value
    states.save(3, third, state(4.0))
    assert states.read(third).slots["weights"]["w"].item() == 3.0
    for digest in (first, second):
        with pytest.raises(StateLost, match="begins anew"):
            states.read(digest)
    assert states.read("").slots == {}
    assert states.save(4, "", State()) == ""


def test_a_damaged_state_counts_as_lost(tmp_path: Path) -> None:
    states = States(tmp_path)
    digest = states.save(1, "", State(facts={"frame": 1}))
    next(tmp_path.glob("*.safetensors")).write_bytes(b"\0" * 40)
    with pytest.raises(StateLost):
        states.read(digest)


@pytest.mark.parametrize("request_bytes", [b"", b"nonsense", b"1BSN" + b"\0" * 60])
def test_a_damaged_request_changes_nothing(request_bytes: bytes, quick_config: MakeConfig, tmp_path: Path) -> None:
    reply, digest = Node(0, tmp_path).answer(quick_config("scaffold"), request_bytes, "a" * 32)
    assert isinstance(reply, Failure)
    assert reply.reason.startswith("WireError: ")
    assert digest == "a" * 32


# --- a client's own data


def half(second: bool) -> Split:
    train = load_dataset("digits").train
    middle = len(train) // 2
    part = slice(middle, None) if second else slice(middle)
    return Split(train.inputs[part], train.targets[part])


def first_half() -> Split:
    return half(second=False)


def second_half() -> Split:
    return half(second=True)


def narrow() -> Split:
    return Split(torch.zeros(5, 1, 4, 4), torch.zeros(5, dtype=torch.int64))


def no_split() -> str:
    return "readings.csv"


def test_clients_bring_their_own_data(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("fedavg", "engine=flower", "task.partition=own", "task.clients=2")
    data = {0: f"{__name__}:first_half", 1: f"{__name__}:second_half"}
    mine = ob.run(config, out=tmp_path / "own", link=Loopback(config, tmp_path, data=data))

    dealt = load_task(quick_config("fedavg", "task.clients=2"))
    middle = len(dealt.dataset.train) // 2
    halves = [torch.arange(middle), torch.arange(middle, len(dealt.dataset.train))]

    def loaded(config: RunConfig) -> object:
        return type(dealt)(dealt.dataset, halves, dealt.model_name, dealt.model_options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "load_task", loaded)
        same_data = ob.run(quick_config("fedavg", "task.clients=2"), out=tmp_path / "dealt")
    assert mine.model is not None
    assert same_data.model is not None
    for name, value in mine.model.state_dict().items():
        assert torch.equal(value, same_data.model.state_dict()[name])


def test_the_example_of_a_node_with_its_own_data_and_model(
    quick_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(EXAMPLE / "mine.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLE / "make.py"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path / "federation" / "node1")
    config = quick_config(
        "fedavg",
        "engine=flower",
        "task.partition=own",
        "task.clients=3",
        "task.dataset=mine:readings",
        "task.model=mine:network",
    )
    try:
        task = Node(1, tmp_path, "mine:own").task(config)
        assert [len(part) for part in task.parts] == [0, 200, 0]
        assert [tuple(p.shape) for p in task.build_model(0).parameters()] == [(32, 12), (32,), (3, 32), (3,)]
    finally:
        sys.modules.pop("mine", None)


@pytest.mark.parametrize(
    ("data", "overrides", "error"),
    [
        ("", ("task.partition=own", "engine=flower"), "this node brings no data; set data in its node-config"),
        (f"{__name__}:first_half", (), r"use task.partition='own'"),
        (
            f"{__name__}:no_split",
            ("task.partition=own", "engine=flower"),
            "own data is a str; expected onebasin's Split",
        ),
        (
            f"{__name__}:narrow",
            ("task.partition=own", "engine=flower"),
            r"examples of shape \[1, 8, 8\]; expected \[1, 4, 4\]",
        ),
        ("nowhere:at_all", ("task.partition=own", "engine=flower"), "module 'nowhere' cannot be imported"),
    ],
)
def test_own_data_that_does_not_fit(
    data: str, overrides: tuple[str, ...], error: str, quick_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=error):
        Node(0, tmp_path, data).task(quick_config("fedavg", *overrides))


def test_own_data_needs_the_flower_engine(quick_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"task.partition='own'.*use engine='flower'"):
        ob.run(quick_config("fedavg", "task.partition=own"), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({}, "partition-id is None"),
        ({"partition-id": -1, "state-dir": "x"}, "partition-id is -1"),
        ({"partition-id": "0", "state-dir": "x"}, "partition-id is '0'"),
        ({"partition-id": 0}, "state-dir is None"),
        ({"partition-id": 0, "state-dir": "x", "data": 3}, "data is 3"),
    ],
)
def test_the_wrong_key_of_a_node_config_is_named(settings: dict[str, str | int], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        Node.read(settings)


@pytest.mark.parametrize("method", ["centralised", "ensemble"])
def test_methods_that_read_client_states_are_refused(method: str, quick_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="looks into what clients remember"):
        quick_config(method, "engine=flower")
