"""Masks over a trained network: one task, many clients, and the exported file."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

import onebasin as ob
from onebasin.apps.cli import app
from onebasin.codecs.context import CodingContext
from onebasin.codecs.named_codecs import make_codec, make_fixed_length_codec
from onebasin.codecs.split_codec import SplitCodec
from onebasin.core.layout import Layout
from onebasin.core.settings import ConfigError
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.load_task import load_task
from onebasin.learning.metrics import evaluate
from onebasin.learning.parametrization import fold
from onebasin.learning.parametrizations.backbone_mask import BackboneMask
from onebasin.learning.pretrained import Pretrained, PretrainedError, digest_of, head_of, read_pretrained
from onebasin.methods.aggregation.mean_mask import MeanMask
from onebasin.methods.aggregation_rule import Mean, apply_rule
from onebasin.networks.weights import parameters_of
from onebasin.wire.error import WireError

MakeConfig = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> ob.Run:
    """Return a run whose perceptron has learned the digits."""
    return ob.run("centralised", ["federation.rounds=4"], out=tmp_path_factory.mktemp("runs") / "backbone")


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))


def test_scores_and_the_last_layer_are_trained_and_nothing_else() -> None:
    model = BackboneMask(score=0.25).apply(plain(), 0, 0)
    trained = parameters_of(model)
    assert list(trained) == ["0.parametrizations.weight.original", "3.weight", "3.bias"]
    assert trained["0.parametrizations.weight.original"].unique().tolist() == [0.25]


def test_weights_with_scores_above_zero_are_kept_and_gradients_pass_through() -> None:
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[2.0, -3.0]]))
    BackboneMask().apply(model, 0, 0)
    scores = model[0].parametrizations.weight.original
    with torch.no_grad():
        scores.copy_(torch.tensor([[0.1, 0.0]]))
    assert model[0].weight.tolist() == [[pytest.approx(2.0), 0.0]]
    model[0].weight.sum().backward()
    assert scores.grad.tolist() == [[2.0, -3.0]]
    assert fold(model)[0].weight.tolist() == [[2.0, 0.0]]


def test_a_last_layer_alone_cannot_be_masked() -> None:
    with pytest.raises(ValueError, match="layers before the last, '0'"):
        BackboneMask().apply(nn.Sequential(nn.Linear(2, 2)), 0, 0)


def test_weights_kept_by_most_clients_are_kept() -> None:
    slots = {"weights": {"0.parametrizations.weight.original": torch.zeros(3), "1.bias": torch.ones(1)}}
    update = {"0.parametrizations.weight.original": torch.tensor([0.0, 0.75, 1.0]), "1.bias": torch.tensor([0.5])}
    after = apply_rule(MeanMask(score=0.01), slots, Mean(update))["weights"]
    assert after["0.parametrizations.weight.original"].tolist() == pytest.approx([-0.01, 0.005, 0.01])
    assert after["1.bias"].tolist() == [1.5]


def test_masks_and_the_other_parameters_have_separate_codecs() -> None:
    layout = Layout.of({"a": torch.zeros(3), "s": torch.zeros(1000), "z": torch.zeros(2)})
    coding = SplitCodec(
        layout, lambda n: n == "s", lambda x: make_codec("threshold", x), lambda x: make_fixed_length_codec("fp16", x)
    )
    common = torch.full((1000,), 0.5)
    common[:500] = -0.5
    goal = common.clone()
    goal[:7] = 0.5
    reference = torch.cat([torch.zeros(3), common, torch.zeros(2)])
    update = {"a": torch.tensor([1.0, 2.0, 3.0]), "s": goal - common, "z": torch.tensor([0.5, -0.5])}
    body, there = coding.send(update, CodingContext(known_model=reference))
    assert torch.equal(there["s"], (goal > 0).float())
    assert there["a"].tolist() == [1, 2, 3]
    assert there["z"].tolist() == [0.5, -0.5]
    # 4 of head, 1 of size; 4 more and 7 flags of 500 (about 52 bits, counts included); 4 more and 5 halves
    assert len(body) < 5 + 4 + 16 + 4 + 10
    received = coding.receive(body, CodingContext(known_model=reference))
    assert list(received) == ["a", "s", "z"]
    assert all(torch.equal(received[name], there[name]) for name in there)
    for size in range(len(body)):
        with pytest.raises(WireError):
            coding.receive(body[:size], CodingContext(known_model=reference))


def test_one_task_learns_a_mask_and_its_file_is_the_model(backbone: ob.Run, tmp_path: Path) -> None:
    overrides = [
        "federation.rounds=4",
        "training.optimizer=adam",
        "training.lr=0.01",
        "method.parametrization.score=0.01",
    ]
    config = read_config(
        {
            "method": {"name": "centralised", "parametrization": "backbone-mask"},
            "task": {"weights": str(backbone.directory)},
        },
        overrides,
    )
    run = ob.run(config, out=tmp_path / "run")
    assert run.summary["accuracy"]["final"] > 0.9
    assert run.summary["parameters"] == 64 * 64 + 64 * 10 + 10
    trained, given = run.model.state_dict(), backbone.model.state_dict()
    kept = trained["fc1.weight"] != 0
    assert 0.3 < kept.float().mean() < 1
    assert torch.equal(trained["fc1.weight"], given["fc1.weight"] * kept)
    assert torch.equal(trained["fc1.bias"], given["fc1.bias"])

    file = tmp_path / "model.obm"
    told = CliRunner().invoke(app, ["export", str(tmp_path / "run"), str(file), "--as", "seed-mask"])
    assert told.exit_code == 0, told.output
    assert "a backbone's digest, a mask of 4,096 weights" in told.output
    assert file.stat().st_size < (4096 + 6 * 650) / 8 + 330
    loaded = ob.load(file, backbone=backbone.directory)
    for name, value in loaded.state_dict().items():
        step = trained[name].abs().max() / 31 if name.startswith("fc2") else 0.0  # the last layer has six bits
        assert ((value - trained[name]).abs() <= 0.501 * step).all(), name
    score = evaluate(loaded, load_task(config).dataset.test)
    assert score.accuracy == pytest.approx(run.summary["accuracy"]["final"], abs=0.003)
    with pytest.raises(ob.ModelFileError, match=r"give them as load\(path, backbone=\.\.\.\)"):
        ob.load(file)
    with pytest.raises(ob.ModelFileError, match="has the digest"):
        ob.load(file, backbone=tmp_path / "run")


def test_clients_train_a_mask_together(backbone: ob.Run, quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("piggyback", f"task.weights={backbone.directory}", "task.partition=iid")
    run = ob.run(config, out=tmp_path / "run")
    assert run.summary["accuracy"]["final"] > 0.7
    given = backbone.model.state_dict()
    kept = run.model.state_dict()["fc1.weight"] != 0
    assert torch.equal(run.model.state_dict()["fc1.weight"], given["fc1.weight"] * kept)
    up = [record["bytes"]["up"] for record in run.history]
    assert up[0] / 4 < 4096 / 8 + 2 * 650 + 100  # of a client: its mask, its last layer in half precision, headers

    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes((backbone.directory / "model.safetensors").read_bytes())
    again = quick_config("piggyback", f"task.weights={moved}", "task.partition=iid")
    assert again.identity() == config.identity()


def test_any_method_can_start_from_given_weights(backbone: ob.Run, quick_config: MakeConfig, tmp_path: Path) -> None:
    task = f"task.weights={{file='{backbone.directory}', head='kept'}}"
    config = quick_config("fedavg", "method.start=shared-seed", "training.lr=1e-9", "federation.rounds=1", task)
    run = ob.run(config, out=tmp_path / "run")
    assert run.summary["accuracy"]["final"] == pytest.approx(backbone.summary["accuracy"]["final"], abs=0.003)
    assert run.summary["bytes"]["init"] < 100  # a seed a client; the weights are there already


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    model = plain()
    state = model.state_dict()
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(state, path)
    assert head_of(model) == "3"
    digest = digest_of(state)
    assert read_pretrained(path, digest).name == str(path)
    with pytest.raises(PretrainedError, match="has the digest"):
        read_pretrained(path, "0" * 32)
    with pytest.raises(PretrainedError, match="No such file"):
        read_pretrained(tmp_path / "none")
    path.write_bytes(b"no such format")
    with pytest.raises(PretrainedError, match="not a safetensors file"):
        read_pretrained(path)
    header = b'{"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(PretrainedError, match="values of type 'F8_E8M0'"):
        read_pretrained(path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"0.bias": None}, "has no tensor '0.bias'"),
        ({"0.weight": torch.zeros(3, 3)}, r"0.weight is \[3, 3\] of torch.float32; the model's is \[3, 2\]"),
        ({"more": torch.zeros(1)}, "has a tensor 'more'"),
    ],
)
def test_a_backbone_of_another_network_is_refused(tensors: dict[str, torch.Tensor | None], message: str) -> None:
    given = plain().state_dict() | tensors
    known = Pretrained("file", {name: value for name, value in given.items() if value is not None})
    with pytest.raises(PretrainedError, match=message):
        known.into(plain())


def test_the_last_layer_is_drawn_unless_the_file_s_is_kept() -> None:
    given = plain().state_dict()
    wider = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 7))
    before = wider[3].weight.detach().clone()
    Pretrained("file", given).into(wider)
    assert torch.equal(wider[0].weight, given["0.weight"])
    assert torch.equal(wider[3].weight, before)
    with pytest.raises(PretrainedError, match=r"3.weight is \[2, 3\]"):
        Pretrained("file", given, fresh_head=False).into(wider)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "say which with task.weights"),
        (["task.weights=no-such-file"], "task.weights: no-such-file: No such file"),
        (["method.uplink=fp32", "method.downlink=fp32"], "go together"),
        (["method.uplink=mask"], "go together"),
        (["method.combine=average"], "go together"),
        (["method.start=local", "method.downlink=fp32"], "one backbone for all"),
    ],
)
def test_choices_that_cannot_be_run_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config("piggyback", overrides)


@pytest.mark.parametrize(
    "overrides", [["method.parametrization=low-rank"], ["method.start=local", "method.models=masked"]]
)
def test_given_weights_are_refused_where_others_are_drawn(overrides: list[str]) -> None:
    with pytest.raises(ConfigError, match="draw others from a seed"):
        read_config("fedavg", [*overrides, f"task.weights={{file='x', digest='{'0' * 32}'}}"])


@given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_every_mask_is_decoded_as_it_was_encoded(seed: int, before: float, after: float, known: bool) -> None:
    draws = torch.Generator().manual_seed(seed)
    common = torch.rand(40, generator=draws) - before
    goal = torch.rand(40, generator=draws) - after
    context = CodingContext(known_model=common) if known else CodingContext()
    coding = make_codec("threshold", Layout.of({"a": torch.zeros(3, 5), "b": torch.zeros(25)}))
    change = coding.layout.split(goal - common if known else goal)
    body, there = coding.send(change, context)
    assert all(torch.equal(value, there[name]) for name, value in coding.receive(body, context).items())
    kept = torch.cat([value.reshape(-1) for value in there.values()])
    assert torch.equal(kept > 0, ((goal - common) + common if known else goal) > 0)
