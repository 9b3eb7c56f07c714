"""Models: the papers' parameter counts, the seed, and what they refuse."""

from pathlib import Path

import pytest
import torch
from tests.learning.toy_data import classification, text
from torch import nn
from torch.func import functional_call, grad, vmap

from onebasin.learning.data.load import Dataset
from onebasin.learning.metrics import loss_of
from onebasin.learning.models import MODELS, ModelError, build_model

GRAY = classification([0, 1], classes=10, shape=(1, 28, 28))
COLOUR = classification([0, 1], classes=10, shape=(3, 32, 32))
SCANS = classification([0, 1], classes=10, shape=(1, 8, 8))
MOTION = classification([0, 1], classes=6, shape=(9, 128))
LETTERS = text(4, length=80, vocabulary=26)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "dataset", "options", "count"),
    [
        ("mlp", SCANS, {}, 64 * 64 + 64 + 64 * 10 + 10),
        ("mlp", GRAY, {"hidden": [512, 512, 512]}, 784 * 512 + 512 + 2 * (512 * 512 + 512) + 512 * 10 + 10),
        ("mlp", SCANS, {"hidden": [8], "norm": "batch"}, 64 * 8 + 8 + 2 * 8 + 8 * 10 + 10),
        ("mlp", SCANS, {"hidden": []}, 650),
        ("lenet5", GRAY, {}, 61_706),
        ("lenet5", COLOUR, {}, 62_006),
        ("lenet5", GRAY, {"width": 4}, 972_554),
        ("cnn4", GRAY, {}, 390_880),
        ("cnn4", GRAY, {"norm": "group"}, 390_880),
        ("cnn4", GRAY, {"norm": "none"}, 389_920),
        ("conv2", COLOUR, {}, 4_301_642),
        ("conv4", GRAY, {}, 1_933_258),
        ("conv4", GRAY, {"bias": False}, 1_932_352),
        ("conv6", COLOUR, {}, 2_262_602),
        ("conv6", COLOUR, {"bias": False}, 2_261_184),
        ("vgg16", COLOUR, {}, 15_253_578),
        ("resnet20", COLOUR, {}, 269_722),
        ("resnet20", COLOUR, {"norm": "group"}, 269_722),
        # Two 1x1 convolutions and their norms: 16*32 + 64 + 32*64 + 128.
        ("resnet20", COLOUR, {"shortcut": "B"}, 269_722 + 2_752),
        ("har-cnn", MOTION, {}, 28_870),
        ("gru", LETTERS, {}, 26 * 64 + 3 * 128 * (64 + 128 + 2) + 3 * 128 * (128 + 128 + 2) + 129 * 26),
        (
            "transformer",
            LETTERS,
            {"width": 8, "layers": 1},
            26 * 8 + 80 * 8 + 4 * 72 + 2 * 256 + 32 + 8 + 3 * 16 + 9 * 26,
        ),
    ],
)
def test_parameter_counts(name: str, dataset: Dataset, options: dict[str, object], count: int) -> None:
    assert parameters(build_model(name, dataset, 0, **options)) == count


def test_width_scales_a_residual_network() -> None:
    half = build_model("resnet20", COLOUR, 0, width=0.5)
    assert [m.out_channels for m in half.modules() if isinstance(m, nn.Conv2d)] == [8] * 7 + [16] * 6 + [32] * 6


FITTING = [
    ("mlp", SCANS),
    ("lenet5", GRAY),
    ("cnn4", GRAY),
    ("conv2", SCANS),
    ("conv4", SCANS),
    ("conv6", SCANS),
    ("vgg16", COLOUR),
    ("resnet20", SCANS),
    ("har-cnn", MOTION),
    ("gru", LETTERS),
    ("transformer", LETTERS),
]


def test_every_model_is_described() -> None:
    assert {name for name, _ in FITTING} == set(MODELS)


@pytest.mark.parametrize(("name", "dataset"), FITTING)
def test_the_seed_is_all_that_decides(name: str, dataset: Dataset) -> None:
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    first = build_model(name, dataset, 5)
    assert torch.equal(torch.rand(3), expected), "torch's own generator was disturbed"
    same, other = build_model(name, dataset, 5), build_model(name, dataset, 6)
    assert first.training
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), same.state_dict().values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("name", "dataset"), FITTING)
def test_models_can_be_traced_and_learn(name: str, dataset: Dataset) -> None:
    model = build_model(name, dataset, 0)
    inputs, targets = dataset.train.inputs, dataset.train.targets
    traced = torch.fx.symbolic_trace(model.eval())
    assert torch.equal(traced(inputs), model(inputs))
    model.train()
    loss = loss_of(model(inputs), targets)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_transformer_does_not_look_ahead() -> None:
    model = build_model("transformer", LETTERS, 0).eval()
    tokens = LETTERS.train.inputs[:1].clone()
    before = model(tokens)
    tokens[0, 50:] = 0
    after = model(tokens)
    assert torch.allclose(before[0, :50], after[0, :50], atol=1e-5)
    assert not torch.allclose(before[0, 50:], after[0, 50:], atol=1e-5)


@pytest.mark.parametrize(("name", "options"), [("lenet5", {}), ("cnn4", {"norm": "group"})])
def test_clients_can_be_batched(name: str, options: dict[str, object]) -> None:
    models = [build_model(name, GRAY, seed, **options) for seed in range(2)]
    states = [dict(model.named_parameters()) for model in models]
    stacked = {key: torch.stack([state[key].detach() for state in states]) for key in states[0]}

    def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return loss_of(functional_call(models[0], weights, (GRAY.train.inputs,)), GRAY.train.targets)

    gradients = vmap(grad(loss))(stacked)
    loss_of(models[1](GRAY.train.inputs), GRAY.train.targets).backward()
    for key, parameter in models[1].named_parameters():
        assert torch.allclose(gradients[key][1], parameter.grad, atol=1e-5), key


@pytest.mark.parametrize(
    ("name", "dataset", "options", "message"),
    [
        ("lenet", GRAY, {}, "'lenet' is unknown; expected one of mlp, lenet5"),
        ("lenet5", SCANS, {}, "takes 28x28 or 32x32 pictures; this data's are 8x8"),
        ("lenet5", MOTION, {}, r"this data's inputs are \[9, 128\]"),
        ("lenet5", GRAY, {"depth": 2}, "'lenet5' has no option 'depth'; it takes width"),
        ("lenet5", GRAY, {"width": 0}, "width: 0; expected a whole number of at least 1"),
        ("mlp", GRAY, {"layers": 2}, "'mlp' has no option 'layers'; it takes hidden, norm"),
        ("mlp", GRAY, {"hidden": 64}, r"hidden: 64; expected a list"),
        ("mlp", GRAY, {"hidden": [0]}, "hidden: 0; expected a whole number"),
        ("mlp", GRAY, {"norm": "layer"}, "norm: 'layer'; expected one of none, batch"),
        ("mlp", LETTERS, {}, r"cannot take counting's inputs \[1, 80\]"),
        ("cnn4", SCANS, {}, "at least 16x16"),
        ("cnn4", GRAY, {"norm": "group", "groups": 5}, "groups: 5; expected a divisor of the layer's 32"),
        ("resnet20", COLOUR, {"width": 0.3}, "width: 0.3; expected a multiple of 1/16"),
        ("resnet20", COLOUR, {"shortcut": "C"}, "shortcut: 'C'; expected one of A, B"),
        ("har-cnn", GRAY, {}, r"signals \[channels, 16 steps or more\]"),
        ("gru", GRAY, {}, r"token ids \[length\]"),
        ("transformer", LETTERS, {"heads": 3}, "heads: 3; expected a divisor of width=128"),
    ],
)
def test_bad_input_is_named(name: str, dataset: Dataset, options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(name, dataset, 0, **options)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True])
def test_bad_seed_is_named(seed: int) -> None:
    with pytest.raises(ModelError, match="seed"):
        build_model("mlp", SCANS, seed)


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `their_models` in the working directory."""
    (tmp_path / "their_models.py").write_text(
        "from torch import nn\n"
        "def good(dataset, width=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, dataset.classes))\n"
        "def narrow(dataset):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))\n"
        "def no_model(dataset):\n"
        "    return 'a model'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("user_module")
def test_a_users_own_model() -> None:
    model = build_model("their_models:good", SCANS, 0, width=3)
    assert parameters(model) == 65 * 3 + 4 * 10
    again = build_model("their_models:good", SCANS, 0, width=3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(ModelError, match=r"'their_models:narrow' on toy: output \[1, 7\]; expected \[1, 10\]"):
        build_model("their_models:narrow", SCANS, 0)
    with pytest.raises(ModelError, match=r"returned a str; expected a torch\.nn\.Module"):
        build_model("their_models:no_model", SCANS, 0)
    with pytest.raises(ModelError, match="has no 'missing'"):
        build_model("their_models:missing", SCANS, 0)


def test_a_digits_model_learns(digits: Dataset) -> None:
    from onebasin.learning.metrics import evaluate

    model = build_model("mlp", digits, 0)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        for batch in torch.randperm(len(digits.train), generator=generator).split(32):
            optimiser.zero_grad()
            loss_of(model(digits.train.inputs[batch]), digits.train.targets[batch]).backward()
            optimiser.step()
    assert evaluate(model, digits.test).accuracy > 0.93
