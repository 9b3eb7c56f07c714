"""Loading of seed + mask files: built-in models, the user's own models, and files that do not fit."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import onebasin as ob
from onebasin.codecs.dense import Exact
from onebasin.core.layout import Layout
from onebasin.learning.models import built_in
from onebasin.networks.weights import buffers_of
from onebasin.results.exports.rebuilding import masked_layers, rebuild
from onebasin.results.exports.seed_mask import Description, SeedMask
from onebasin.wire.error import WireError


def file_of(model: nn.Module, name: str, shape: tuple[int, ...], options: dict[str, Any] | None = None) -> SeedMask:
    """Return a file with random masks and the model's buffers."""
    layers = masked_layers(model)
    rng = np.random.default_rng(1)
    masks = {layer: rng.random(size) < 0.4 for layer, size in layers.items()}
    description = Description(model=name, options=options or {}, input=shape, classes=10, layers=layers)
    buffers = buffers_of(model)
    return SeedMask(3, description, masks, Exact(Layout.of(buffers)).encode(buffers))


def users_model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 10))


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("mlp", (1, 8, 8), {"hidden": [32, 16], "norm": "batch"}),
        ("lenet5", (1, 28, 28), {"width": 2}),
        ("cnn4", (1, 16, 16), {"norm": "group"}),
        ("conv2", (1, 8, 8), {"bias": False}),
        ("resnet20", (3, 32, 32), {"width": 0.5, "shortcut": "B"}),
        ("har-cnn", (9, 128), {}),
    ],
)
def test_a_built_in_model_is_built_from_the_file_alone(
    name: str, shape: tuple[int, ...], options: dict[str, Any], tmp_path: Path
) -> None:
    model = built_in(name, shape, 10, options)
    for tensor in buffers_of(model).values():
        tensor.copy_(torch.rand(tensor.shape) * 10 + 1)
    file = file_of(model, name, shape, options)
    (tmp_path / "model.obm").write_bytes(file.to_bytes())
    loaded = ob.load(tmp_path / "model.obm")
    assert not loaded.training
    assert list(loaded.state_dict()) == list(model.state_dict())
    for layer, mask in file.masks.items():
        weight = loaded.get_parameter(layer).detach()
        assert np.array_equal((weight != 0).numpy(), mask)
        assert weight.abs().unique().numel() == 2, "zero, and one magnitude"
    for key, buffer in buffers_of(model).items():
        assert torch.equal(buffers_of(loaded)[key], buffer)
    assert loaded(torch.rand(2, *shape)).shape == (2, 10)


def test_a_users_model_is_passed_in_and_not_changed(tmp_path: Path) -> None:
    model = users_model().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    file = file_of(model, "mine:network", (6,))
    path = tmp_path / "model.obm"
    path.write_bytes(file.to_bytes())
    loaded = ob.load(str(path), model=model)
    assert model.training
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert np.array_equal((loaded[3].weight != 0).numpy(), file.masks["3.weight"])
    assert torch.equal(loaded[1].weight, torch.ones(5))
    assert torch.equal(loaded[3].bias, torch.zeros(10))
    with pytest.raises(
        ob.ModelFileError, match=r"model\.obm: its model is 'mine:network', .* load\(path, model=\.\.\.\)"
    ):
        ob.load(path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.ReLU(), nn.Linear(4, 10)), r"0.weight is \[5, 6\]; .* \[4, 6\]"),
        (nn.Sequential(nn.Linear(6, 5)), r"has a mask of 3.weight \[10, 5\]; the model has no such layer"),
        (nn.Sequential(*users_model(), nn.Linear(10, 2)), r"has no mask of 4.weight \[2, 10\], which the model has"),
        (users_model().double(), r"0.weight is torch.float64"),
        (nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.ReLU(), nn.Linear(5, 10)), "not exact for this model's layout"),
        (nn.Sequential(nn.Linear(6, 5), nn.GRU(5, 5), nn.ReLU(), nn.Linear(5, 10)), "cannot be masked: 1.weight_ih_l0"),
    ],
)
def test_another_model_is_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(WireError, match=message):
        rebuild(file_of(users_model(), "mine:network", (6,)), model)


def test_layers_in_another_order_are_refused() -> None:
    file = file_of(users_model(), "mine:network", (6,))
    reversed_layers = dict(reversed(file.description.layers.items()))
    other = replace(file, description=file.description.model_copy(update={"layers": reversed_layers}))
    with pytest.raises(WireError, match="layers are in the order"):
        rebuild(other, users_model())


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("lenet6", {}, "'lenet6' is unknown"),
        ("mlp", {"depth": 3}, "no option 'depth'"),
        ("mlp", {"hidden": "many"}, "expected a list"),
        ("mlp", {"hidden": [10**7, 10**7]}, "larger than the layers"),
        ("mlp", {"hidden": [10**30]}, "cannot be built"),
        ("mlp", {"hidden": [1] * 20_000}, "larger than the layers"),
        ("lenet5", {"width": 10**6}, "lenet5 takes pictures"),
        ("gru", {"layers": 10**9}, "larger than the layers|cannot be built"),
        ("transformer", {"layers": 10**9, "width": 4}, "larger than the layers"),
        ("mlp", {"hidden": [63]}, r"fc1.weight is \[64, 64\]; the model's layer is \[63, 64\]"),
    ],
)
def test_a_model_other_than_the_listed_layers_is_refused(model: str, options: dict[str, Any], message: str) -> None:
    file = file_of(built_in("mlp", (64,), 10, {}), "mlp", (64,))
    hostile = file.description.model_copy(update={"model": model, "options": options})
    started = time.process_time()
    with pytest.raises(WireError, match=message):
        rebuild(replace(file, description=hostile))
    assert time.process_time() - started < 5, "it must not be built before it is refused"


def test_damaged_statistics_are_refused() -> None:
    file = file_of(users_model(), "mine:network", (6,))
    with pytest.raises(WireError, match="the body has 51 bytes, not 52"):
        rebuild(replace(file, buffers=file.buffers[:-1]), users_model())
    not_a_number = file.buffers[:4] + b"\xff" * 4 + file.buffers[8:]
    with pytest.raises(WireError, match="running_mean has values that are NaN"):
        rebuild(replace(file, buffers=not_a_number), users_model())


def test_missing_files_and_files_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ob.load(tmp_path / "none.obm")
    (tmp_path / "state.safetensors").write_bytes(bytes(8) + b"{}")
    with pytest.raises(ob.ModelFileError, match=r"state\.safetensors: not a seed \+ mask file"):
        ob.load(tmp_path / "state.safetensors")
