"""Masks of whole neurons and filters: one score, and one bit, for all incoming weights; trained, sent and exported."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.results.exports.test_seed_mask import described, every_damage_is_noticed
from torch import nn
from typer.testing import CliRunner

import onebasin as ob
from onebasin.apps.cli import app
from onebasin.codecs.context import CodingContext
from onebasin.codecs.dense import Exact
from onebasin.codecs.named_codecs import make_codec
from onebasin.core.layout import Layout
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.learning.masks.layers import SCORES
from onebasin.learning.models import built_in
from onebasin.learning.parametrization import Parametrization, fold
from onebasin.learning.parametrizations.backbone_mask import BackboneMask
from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.learning.pretrained import Pretrained
from onebasin.networks.weights import buffers_of, parameters_of
from onebasin.results.exports.rebuilding import masked_layers, rebuild
from onebasin.results.exports.seed_mask import Description, SeedMask
from onebasin.wire.error import WireError

MakeConfig = Callable[..., RunConfig]
NEURONS: tuple[Parametrization, ...] = (
    Supermask(over="neurons"),
    Supermask(kept="highest", over="neurons"),
    BackboneMask(over="neurons"),
)
LENET5 = [(6, 1, 1, 1), (16, 1, 1, 1), (120, 1), (84, 1)]


def name_of(chosen: Parametrization) -> str:
    return f"{chosen.kind} {getattr(chosen, 'kept', '')}".strip()


def scores_of(model: nn.Module) -> list[torch.Tensor]:
    return [value for name, value in parameters_of(model).items() if name.endswith(SCORES)]


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3)
    )


def test_a_layer_has_one_score_per_neuron_or_filter_and_no_class_is_dropped() -> None:
    def lenet5() -> nn.Module:
        return built_in("lenet5", (1, 28, 28), 10, {})

    random = Supermask(over="neurons").apply(lenet5(), 0, 0)
    assert [tuple(scores.shape) for scores in scores_of(random)] == [*LENET5, (10, 84)]
    trained = BackboneMask(over="neurons").apply(lenet5(), 0, 0)
    assert [tuple(value.shape) for value in parameters_of(trained).values()] == [*LENET5, (10, 84), (10,)]
    assert sum(math.prod(shape) for shape in LENET5) == 226


def test_random_weights_are_those_of_a_mask_over_weights() -> None:
    one, other = (Supermask(over=over).apply(small(), 3, 0) for over in ("weights", "neurons"))
    for index in (0, 4, 6):
        assert torch.equal(
            one[index].parametrizations.weight[0].weights, other[index].parametrizations.weight[0].weights
        )


def test_a_neuron_is_drawn_as_a_whole_and_its_gradient_is_the_sum_over_its_weights() -> None:
    model = Supermask(over="neurons").apply(nn.Sequential(nn.Linear(3, 200), nn.Linear(200, 1)), 0, 0)
    weights, scores = model[0].parametrizations.weight[0].weights, model[0].parametrizations.weight.original
    with torch.no_grad():
        scores.fill_(torch.logit(torch.tensor(0.2)).item())
        scores[:2] = torch.tensor([[0.0], [1.0]])
    torch.manual_seed(0)
    kept = model[0].weight != 0
    assert all(row in ([True] * 3, [False] * 3) for row in kept.tolist())
    assert 20 < kept[:, 0].sum() < 60
    (model[0].weight * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert scores.grad is not None
    expected = (weights[0] * torch.tensor([1.0, 2.0, 3.0])).sum() * 0.25  # the slope of the logistic function at 0
    assert scores.grad[0].item() == pytest.approx(expected.item())
    model.eval()
    assert model[0].weight.nonzero().tolist() == [[1, 0], [1, 1], [1, 2]]


def test_the_neurons_with_the_highest_scores_are_kept() -> None:
    chosen = Supermask(kept="highest", density=0.5, over="neurons")
    model = chosen.apply(nn.Sequential(nn.Conv1d(2, 4, 3), nn.Linear(4, 2)), 0, 0)
    assert (model[0].weight != 0).flatten(1).tolist() == [[False] * 6, [False] * 6, [True] * 6, [True] * 6]
    with torch.no_grad():
        model[0].parametrizations.weight.original.copy_(torch.tensor([0.3, -5.0, 0.1, 0.2]).view(4, 1, 1))
    assert (model[0].weight != 0).flatten(1).tolist() == [[True] * 6, [False] * 6, [False] * 6, [True] * 6]
    assert int((model[1].weight != 0).sum()) == 4, "of the last layer's 8 weights"


def test_a_dropped_neuron_of_a_backbone_keeps_its_bias() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[2.0, -3.0], [5.0, 7.0]]))
        model[0].bias.copy_(torch.tensor([0.5, 0.25]))
    BackboneMask(score=0.25, over="neurons").apply(model, 0, 0)
    scores = model[0].parametrizations.weight.original
    assert scores.tolist() == [[0.25], [0.25]]
    model[0].weight.sum().backward()
    assert scores.grad.tolist() == [[-1.0], [12.0]]
    with torch.no_grad():
        scores[0] = 0.0
    assert fold(model)[0](torch.ones(2)).tolist() == [0.5, 12.25]
    assert model[0].weight.tolist() == [[0.0, 0.0], [5.0, 7.0]]


@pytest.mark.parametrize("chosen", NEURONS, ids=name_of)
@given(seed=st.integers(0, 2**32))
def test_folding_leaves_whole_neurons_and_the_same_function(chosen: Parametrization, seed: int) -> None:
    model = chosen.apply(small(), 1, 0)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for scores in scores_of(model):
            scores.normal_(generator=draws)
    inputs = torch.randn(5, 2, 4, 4, generator=draws)
    expected = model.eval()(inputs)
    folded = fold(model)
    assert folded.state_dict().keys() == small().state_dict().keys()
    assert torch.equal(folded(inputs), expected)
    for layer in (folded[0], folded[4]):
        kept = (layer.weight != 0).flatten(1)
        assert torch.equal(kept.any(1), kept.all(1))


@pytest.mark.parametrize("chosen", NEURONS, ids=name_of)
def test_a_transposed_convolution_is_refused_unless_it_is_the_last_layer(chosen: Parametrization) -> None:
    with pytest.raises(ValueError, match=r"a ConvTranspose2d's \[2, 3, 1, 1\] begin with what comes in: use over='w"):
        chosen.apply(nn.Sequential(nn.ConvTranspose2d(2, 3, 1), nn.Conv2d(3, 1, 1)), 0, 0)
    chosen.apply(nn.Sequential(nn.Conv2d(2, 3, 1), nn.ConvTranspose2d(3, 1, 1)), 0, 0)


@pytest.mark.parametrize("chosen", NEURONS, ids=name_of)
def test_masks_over_weights_keep_the_identity_of_their_runs(chosen: Parametrization) -> None:
    method = "piggyback" if isinstance(chosen, BackboneMask) else "fedpm"
    task = [f"task.weights={{file='x', digest='{'0' * 32}'}}"] if method == "piggyback" else []
    before = read_config(method, task)
    assert read_config(method, [*task, "method.parametrization.over=weights"]).identity() == before.identity()
    assert read_config(method, [*task, "method.parametrization.over=neurons"]).identity() != before.identity()


@pytest.mark.parametrize(("stage", "size"), [("threshold", 4 + 28), ("mask", 4 + 28)])
def test_226_flags_take_their_entropy_in_whole_words(stage: str, size: int) -> None:
    layout = Layout.of({str(shape): torch.zeros(shape) for shape in LENET5})
    change = {entry.name: torch.full(entry.shape, -100.0) for entry in layout.entries}
    counts = dict(zip(change, (2, 8, 77, 76), strict=True))
    for name, kept in counts.items():
        change[name][:kept] = 100.0
    sizes = {name: len(flags) for name, flags in change.items()}
    bits = sum(math.log2((sizes[name] + 1) * math.comb(sizes[name], kept)) for name, kept in counts.items())
    assert bits == pytest.approx(
        182.36, abs=0.01
    )  # 7 words of 32 bits, the coder's own last one among them; and a head
    coding = make_codec(stage, layout)
    body, there = coding.send(change, CodingContext())
    assert len(body) == size
    received = coding.receive(body, CodingContext())
    for name, flags in change.items():
        assert torch.equal(received[name], (flags > 0).float())
        assert torch.equal(received[name], there[name])


def file_of(model: nn.Module, seed: int, backbone: str = "") -> SeedMask:
    """A file with random masks of a model's neurons, and the model's buffers."""
    layers = masked_layers(model, bool(backbone))
    over: dict[str, Any] = {"over": "neurons"}
    described: dict[str, Any] = {"backbone": backbone, "backbone_mask": over} if backbone else {"supermask": over}
    description = Description(model="mine:net", input=(2, 4, 4), classes=3, layers=layers, **described)
    rng = np.random.default_rng(seed)
    masks = {name: rng.random(shape) < rng.random() for name, shape in description.flags.items()}
    buffers = buffers_of(model)
    return SeedMask(7, description, masks, Exact(Layout.of(buffers)).encode(buffers))


@given(st.integers(0, 2**32), st.sampled_from(["", "0" * 32]))
def test_a_file_has_a_flag_per_neuron_and_is_read_as_it_was_written(seed: int, backbone: str) -> None:
    file = file_of(small(), seed, backbone)
    shapes = {"0.weight": (4, 1, 1, 1), "4.weight": (5, 1)} | ({} if backbone else {"6.weight": (3, 5)})
    assert file.description.flags == shapes
    read = SeedMask.from_bytes(file.to_bytes())
    assert read.description == file.description
    assert {name: mask.shape for name, mask in read.masks.items()} == shapes
    assert all(np.array_equal(mask, file.masks[name]) for name, mask in read.masks.items())
    with pytest.raises(ValueError, match="the masks are of"):
        replace(
            file, masks={name: np.ones(shape, np.bool_) for name, shape in read.description.layers.items()}
        ).to_bytes()


def test_a_seeds_neurons_are_kept_as_a_whole() -> None:
    file, model = file_of(small(), 1), small()
    every = {name: np.ones_like(mask) for name, mask in file.masks.items()}
    random, masked = rebuild(replace(file, masks=every), model), rebuild(file, model)
    for name, mask in file.masks.items():
        assert torch.equal(masked.get_parameter(name), random.get_parameter(name) * torch.from_numpy(mask))
    assert b'"supermask":{"over":"neurons"}' in file.to_bytes()


def test_every_truncation_and_every_bit_flip_is_detected() -> None:
    every_damage_is_noticed(file_of(small(), 2).to_bytes())


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (
            b'"backbone":"00000000000000000000000000000000","backbone_mask":{"over":"neurons"},"layers":{"w":[999999999,2]}',
            "lists 999,999,999 neurons; a mask of 2 bytes can be of 1,056,768 at most",
        ),
        (
            b'"supermask":{"over":"neurons"},"layers":{"w":[2,999999999],"v":[1,1]}',
            "lists 1,999,999,999 weights; a mask of 2 bytes can be of 1,056,768 at most",
        ),
        (b'"supermask":{"over":"filters"},"layers":{"v":[1,1]}', "wrong: supermask.over"),
        (b'"backbone_mask":{"over":1},"layers":{"v":[1,1]}', "wrong: backbone_mask.over"),
    ],
)
def test_a_file_that_asks_for_too_much_is_refused_before_it_is_read(which: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        SeedMask.from_bytes(described(b'{"model":"mlp","input":[4],"classes":2,' + which + b"}", b"\x01\x02"))


@pytest.mark.parametrize(
    ("backbone", "layers", "message"),
    [
        (
            "",
            {"0.weight": (), "6.weight": (3, 5)},
            r"its mask of 0.weight is \[\]; the model's layer is \[4, 2, 3, 3\]",
        ),
        ("0" * 32, {"0.weight": (4, 10**12)}, r"its mask of 0.weight is \[4, 1000000000000\]; the model's layer is"),
    ],
)
def test_flags_of_other_layers_are_refused(backbone: str, layers: dict[str, tuple[int, ...]], message: str) -> None:
    file = file_of(small(), 3, backbone)
    other = file.description.model_copy(update={"layers": layers})
    masks = {name: np.ones(shape, np.bool_) for name, shape in other.flags.items()}
    data = replace(file, description=other, masks=masks).to_bytes()
    with pytest.raises(WireError, match=message):
        rebuild(SeedMask.from_bytes(data), small(), Pretrained("file", small().state_dict()) if backbone else None)


def test_a_model_with_transposed_convolutions_has_no_such_file() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(2, 3, 1), nn.Conv2d(3, 1, 1))
    with pytest.raises(WireError, match="cannot be masked: over='neurons'"):
        rebuild(file_of(model, 4), model)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A perceptron that knows the digits, with two weights of its first neuron at 0, and all of its second."""
    folder = tmp_path_factory.mktemp("backbones")
    run = ob.run("centralised", ["federation.rounds=2"], out=folder / "run")
    assert run.model is not None
    state = run.model.state_dict()
    state["fc1.weight"][0, [20, 30]] = 0.0
    state["fc1.weight"][1] = 0.0
    safetensors.torch.save_file(state, folder / "digits.safetensors")
    return folder / "digits.safetensors"


def export(run: Path, file: Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["export", str(run), str(file), "--as", "seed-mask"])
    return done.exit_code, " ".join(done.output.split())


def test_one_task_learns_which_neurons_it_keeps_and_its_file_is_the_model(backbone: Path, tmp_path: Path) -> None:
    method = {"name": "centralised", "parametrization": {"kind": "backbone-mask", "over": "neurons"}}
    overrides = ["federation.rounds=2", "training.optimizer=adam", "training.lr=0.002"]
    run = ob.run(read_config({"method": method, "task": {"weights": str(backbone)}}, overrides), out=tmp_path / "run")
    assert run.summary["parameters"] == 64 + 64 * 10 + 10
    assert run.model is not None
    trained, given = run.model.state_dict(), safetensors.torch.load_file(backbone)
    kept = (trained["fc1.weight"] != 0).any(1)
    assert 32 < kept.sum() < 63
    assert kept[0]
    assert torch.equal(trained["fc1.weight"], given["fc1.weight"] * kept[:, None])
    assert torch.equal(trained["fc1.bias"], given["fc1.bias"])

    file = tmp_path / "model.obm"
    code, told = export(tmp_path / "run", file)
    assert code == 0, told
    assert "a backbone's digest, a mask of 4,096 weights by 64 flags, and what model it is" in told
    assert file.stat().st_size < 64 / 8 + 8 + 6 * 650 / 8 + 330
    loaded = ob.load(file, backbone=backbone)
    for name, value in loaded.state_dict().items():
        step = trained[name].abs().max() / 31 if name.startswith("fc2") else 0.0  # the last layer has six bits
        assert ((value - trained[name]).abs() <= 0.501 * step).all(), name

    trained["fc1.weight"][kept.nonzero()[1], 25] = 0.0
    safetensors.torch.save_file(trained, tmp_path / "run" / "model.safetensors")
    code, told = export(tmp_path / "run", tmp_path / "other.obm")
    assert code == 1
    assert "fc1.weight is not what its seed and mask give" in told


def test_clients_agree_on_a_backbones_neurons(backbone: Path, quick_config: MakeConfig, tmp_path: Path) -> None:
    over = "method.parametrization.over=neurons"
    run = ob.run(quick_config("piggyback", over, f"task.weights={backbone}", "training.lr=0.02"), out=tmp_path / "run")
    assert run.model is not None
    given, kept = safetensors.torch.load_file(backbone)["fc1.weight"], run.model.fc1.weight != 0
    assert torch.equal(run.model.fc1.weight, given * kept.any(1, keepdim=True))
    for record in run.history[:1]:
        assert record["bytes"]["up"] / 4 < 64 / 8 + 2 * 650 + 100  # a client's flags, its last layer, headers


@pytest.mark.parametrize(("kept", "least"), [("by-chance", 0.5), ("highest", 0.4)])
def test_a_seeds_neurons_and_the_weights_of_its_classes_learn_the_digits(
    kept: str, least: float, tmp_path: Path
) -> None:
    method = {"name": "centralised", "parametrization": {"kind": "supermask", "kept": kept, "over": "neurons"}}
    training = {"optimizer": "adam", "lr": 0.1}
    run = ob.run({"method": method, "training": training, "federation": {"rounds": 16}}, out=tmp_path / "run")
    assert run.summary["accuracy"]["final"] > least


@pytest.mark.parametrize(
    ("method", "overrides"),
    [("fedpm", ()), ("fedpm", ("method.parametrization.kept=highest",)), ("bicompfl", ())],
    ids=["by chance", "highest", "by random coding"],
)
def test_clients_agree_on_a_seeds_neurons(
    method: str, overrides: tuple[str, ...], quick_config: MakeConfig, tmp_path: Path
) -> None:
    config = quick_config(method, "method.parametrization.over=neurons", "training.epochs=1", *overrides)
    run = ob.run(config, out=tmp_path / "run")
    assert run.model is not None
    assert run.summary["parameters"] == 64 + 640
    kept = run.model.fc1.weight != 0
    assert torch.equal(kept.any(1), kept.all(1))
    assert run.history[0]["bytes"]["up"] / 4 < (64 + 640) / 8 + 80  # a client's flags, headers
    code, told = export(tmp_path / "run", tmp_path / "model.obm")
    assert code == 0, told
    assert "a seed, a mask of 4,736 weights by 704 flags" in told
    assert (tmp_path / "model.obm").stat().st_size < 704 / 8 + 200
    for name, value in ob.load(tmp_path / "model.obm").state_dict().items():
        torch.testing.assert_close(value, run.model.state_dict()[name], rtol=1e-4, atol=0.0)
