"""Values are decoded exactly as the sender meant them, and counted; differences between both sides are detected."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.federation.test_downlink_deltas import Played
from tests.stopped_runs import Stop, StopAfter

import onebasin as ob
from onebasin.codecs.chain import Chain
from onebasin.codecs.codec import NotFinite
from onebasin.codecs.context import CodingContext
from onebasin.codecs.dense import Exact
from onebasin.codecs.named_codecs import make_fixed_length_codec
from onebasin.core.clients import Failure
from onebasin.core.layout import Layout
from onebasin.core.state import State
from onebasin.federation.run_config import RunConfig
from onebasin.learning.load_task import load_task
from onebasin.wire.error import Diverged
from onebasin.wire.ledger import Decoded

MakeConfig = Callable[..., RunConfig]
MASKED = ("fedpm", "klms", "bicompfl", "fedmrn", "fedmask", "zampling", "fedpfn")


def test_a_body_has_a_check_of_the_values_that_its_receiver_must_decode() -> None:
    one = {"w": torch.ones(1)}
    codec = make_fixed_length_codec("fp32", Layout.of(one))
    body = codec.encode(one)
    assert body[2:4] == struct.pack("<H", zlib.crc32(struct.pack("<f", 1.0)) & 0xFFFF)
    with pytest.raises(Diverged, match="gives other values here than where it was written"):
        codec.decode(body[:4] + struct.pack("<f", 1.5))


def test_zero_has_one_sign() -> None:
    zeros = {"w": torch.tensor([0.0, -0.0])}
    codec = make_fixed_length_codec("fp32", Layout.of(zeros))
    assert codec.encode(zeros)[:4] == codec.encode({"w": torch.zeros(2)})[:4]


@pytest.mark.parametrize("chain", ["random-k 0.5 | fp32", "mrc 8", "masked-noise 0.1 mask=signed"])
def test_different_draws_or_models_of_the_two_sides_are_detected(chain: str) -> None:
    values = {"w": torch.randn(200, generator=torch.Generator().manual_seed(0))}
    coding, held = Chain(chain, Layout.of(values)), torch.zeros(200)
    body, sent = coding.send(values, CodingContext(1, 2, 3, known_model=held))
    assert torch.equal(coding.receive(body, CodingContext(1, 2, 3, known_model=held))["w"], sent["w"])
    with pytest.raises(Diverged):
        coding.receive(body, CodingContext(1, 2, 4, known_model=held))
    if chain.startswith("mrc"):
        with pytest.raises(Diverged):
            coding.receive(body, CodingContext(1, 2, 3, known_model=held + 1))


@pytest.mark.parametrize("method", MASKED)
def test_every_mask_of_a_run_is_decoded_to_that_of_its_client(
    method: str, quick_config: MakeConfig, tmp_path: Path
) -> None:
    result = ob.run(quick_config(method), out=tmp_path / "run")
    assert result.summary["decoded"] == {"equal": 3 * 4, "different": 0}
    assert [record["decoded"]["equal"] for record in result.history] == [4, 8, 12]


def test_the_count_continues_when_a_run_is_resumed(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("fedpm")
    with pytest.raises(Stop):
        ob.run(config, out=tmp_path / "run", observers=[StopAfter(2)])
    assert ob.run(config, resume=tmp_path / "run").summary["decoded"] == {"equal": 12, "different": 0}


def test_clients_that_send_no_model_are_not_counted(quick_config: MakeConfig, tmp_path: Path) -> None:
    assert ob.run(quick_config("local-only"), out=tmp_path / "run").summary["decoded"] == {"equal": 0, "different": 0}


def test_a_server_refuses_the_replies_of_clients_with_another_model(quick_config: MakeConfig) -> None:
    config = quick_config("klms")
    task = load_task(config)
    played = Played(config, task)
    orders = played.server.open(1)
    replies = list(played.engine.exchange(orders))
    before = played.server.state.slots["weights"]
    played.server.state.slots["weights"] = {name: scores + 1 for name, scores in before.items()}
    played.server.close([(0, Failure("away")), *replies[1:]])
    assert played.server.result.decoded == Decoded(equal=0, different=3)
    assert {c: r.split(":")[0] for c, r in played.server.result.failures.items() if c} == dict.fromkeys(
        (1, 2, 3), "Diverged"
    )
    after = played.server.state.slots["weights"]
    assert all(torch.equal(after[name], scores + 1) for name, scores in before.items())


@pytest.mark.parametrize("start", ["shared-seed", "broadcast"])
@pytest.mark.parametrize("forgotten", ["held", "moved"])
def test_a_client_with_another_model_or_history_receives_the_whole_model(
    start: str, forgotten: str, quick_config: MakeConfig
) -> None:
    """The client has another model, or another history of changes, by which masks are coded."""
    chain = "error-feedback | top-k 0.05 | sign"
    chains = (f"method.uplink={chain}", f"method.downlink={chain}", f"method.start={start}")
    config = quick_config("fedavg", *chains, "federation.rounds=5")
    played = Played(config, load_task(config))
    for number in (1, 2):
        played.round(number)
    state = played.engine.state_of(1)
    other = {name: value + 0.5 if forgotten == "held" else 0 * value for name, value in state.slots[forgotten].items()}
    played.engine.put_state(1, State({**state.slots, forgotten: other}, state.facts))
    replies = dict(played.engine.exchange(played.server.open(3)))
    lost = replies[1]
    assert isinstance(lost, Failure)
    assert lost.reason.startswith("Diverged: ")
    played.server.close(iter(replies.items()))
    assert played.server.result.decoded == Decoded(equal=3, different=1)
    played.round(4)
    sizes = {client: len(order) for client, order in played.orders[-1].items()}
    assert sizes[1] > 4 * played.server.protocol.parameters.numel > 8 * sizes[0]
    held = [State.from_bytes(played.engine.read_state(client)).slots["held"] for client in range(4)]
    assert all(torch.equal(each[name], value) for each in held for name, value in held[0].items())
    played.round(5)
    sizes = {client: len(order) for client, order in played.orders[-1].items()}
    assert sizes[1] == sizes[0]


def test_a_server_with_another_model_refuses_updates(quick_config: MakeConfig) -> None:
    chain = "error-feedback | top-k 0.05 | sign"
    config = quick_config("fedavg", f"method.uplink={chain}", f"method.downlink={chain}")
    played = Played(config, load_task(config))
    played.round(1)
    replies = list(played.engine.exchange(played.server.open(2)))
    holds = dict(played.server.state.facts["holds"])
    for weights in played.server.state.slots["weights"].values():
        weights += 0.5
    played.server.close(replies)
    assert played.server.result.decoded == Decoded(different=4)
    assert played.server.state.facts["holds"] == holds, "who wrote such a reply had read its order"


def test_finite_values_that_would_be_encoded_as_infinite_are_not_sent() -> None:
    most = {"w": torch.tensor([torch.finfo(torch.float32).max, 0.0])}
    with pytest.raises(NotFinite, match="w has 1 values"):
        make_fixed_length_codec("int8", Layout.of(most)).encode(most)


def test_floats_of_one_byte_are_sent_exactly() -> None:
    values = {"b": torch.tensor([1.0, -0.0, 3.0]).to(torch.float8_e4m3fn)}
    codec = Exact(Layout.of(values))
    assert torch.equal(codec.decode(codec.encode(values))["b"].float(), values["b"].float())
