"""`onebasin export` as a user types it, and what `ob.load` makes of it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn
from typer.testing import CliRunner

import onebasin as ob
from onebasin.apps.cli import app
from onebasin.federation.read_config import read_config
from onebasin.learning.data.load import load_dataset
from onebasin.learning.metrics import evaluate
from onebasin.results.exports import onnx

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def own_code() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS))
        yield


def finished(folder: Path, method: str, *overrides: str, **task: Any) -> ob.Run:
    base = {"method": method, "federation": {"rounds": 2}, "training": {"epochs": 1}, "task": {"clients": 4, **task}}
    return ob.run(read_config(base, overrides), out=folder)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> ob.Run:
    return finished(tmp_path_factory.mktemp("runs") / "masked", "fedpm")


def export(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["export", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def test_a_mask_gives_the_runs_model_and_accuracy(masked: ob.Run, tmp_path: Path) -> None:
    out = tmp_path / "model.obm"
    code, told = export(masked.directory, "--as", "seed-mask", out)
    assert code == 0, told
    size = out.stat().st_size
    assert f"{size:,} bytes" in told
    assert "4,736 weights" in told
    assert 0.9 * 4736 / 8 < size < 4736 / 8 + 150
    loaded = ob.load(out)
    assert masked.model is not None
    for name, tensor in masked.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert evaluate(loaded, load_dataset("digits").test).accuracy == masked.summary["accuracy"]["final"]


@pytest.mark.parametrize(
    "override", [(), ("method.parametrization.kept=highest", "method.parametrization.density=0.3")]
)
def test_ones_own_model_with_statistics(override: tuple[str, ...], tmp_path: Path) -> None:
    run = finished(tmp_path / "run", "fedpm", *override, dataset="user_code:dataset", model="user_code:network")
    out = tmp_path / "model.obm"
    code, told = export(run.directory, "--as", "seed-mask", out)
    assert code == 0, told
    with pytest.raises(ob.ModelFileError, match="'user_code:network', which is not onebasin's"):
        ob.load(out)
    data = load_dataset("user_code:dataset")
    from user_code import network  # type: ignore[import-not-found]

    loaded = ob.load(out, model=network(data))
    assert run.model is not None
    assert loaded[1].num_batches_tracked > 0
    torch.testing.assert_close(loaded(data.test.inputs), run.model(data.test.inputs), rtol=1e-5, atol=1e-5)
    assert loaded[0].weight.abs().unique().numel() == 2
    if override:
        assert int((loaded[5].weight != 0).sum()) == round(0.3 * loaded[5].weight.numel())


def test_all_weights_of_factors(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", "fedpara")
    out = tmp_path / "model.safetensors"
    code, told = export(run.directory, "--as", "safetensors", out)
    assert code == 0, told
    state = safetensors.torch.load_file(out)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    plain.load_state_dict({name.replace("fc1", "1").replace("fc2", "3"): tensor for name, tensor in state.items()})
    x = load_dataset("digits").test.inputs
    assert run.model is not None
    assert torch.equal(plain(x), run.model(x))


def test_what_cannot_be_exported_is_said(masked: ob.Run, tmp_path: Path) -> None:
    out = tmp_path / "model.obm"
    dense = finished(tmp_path / "dense", "fedavg").directory
    alone = finished(tmp_path / "alone", "local-only").directory
    cut_off = tmp_path / "cut-off"
    shutil.copytree(masked.directory, cut_off)
    (cut_off / "summary.json").unlink()
    taken = tmp_path / "taken.obm"
    taken.write_text("mine")
    cases = [
        ((tmp_path, "--as", "seed-mask", out), "holds no run: it has no config.toml"),
        ((tmp_path / "nowhere", "--as", "seed-mask", out), "holds no run"),
        ((cut_off, "--as", "seed-mask", out), f"is not finished; go on with: onebasin run --resume {cut_off}"),
        ((alone, "--as", "safetensors", out), "has no common model: with 'local-only' every client has its own"),
        ((dense, "--as", "seed-mask", out), "'fedavg' has method.parametrization='dense'; only a supermask"),
        ((masked.directory, "--as", "pickle", out), "'pickle'; expected one of seed-mask, safetensors, onnx"),
        ((masked.directory, "--as", "seed-mask", taken), "exists already"),
        ((masked.directory, "--as", "seed-mask", tmp_path / "no" / "folder.obm"), "No such file"),
    ]
    for arguments, message in cases:
        code, told = export(*arguments)
        assert code == 1
        assert message.replace(" ", "") in told.replace(" ", "")  # the console breaks long paths
    assert not out.exists()
    assert taken.read_text() == "mine"


def test_weights_that_were_changed_are_not_exported_as_a_mask(masked: ob.Run, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(masked.directory, changed)
    state = safetensors.torch.load_file(changed / "model.safetensors")
    state["fc2.weight"] *= 1.001
    safetensors.torch.save_file(state, changed / "model.safetensors")
    code, told = export(changed, "--as", "seed-mask", tmp_path / "model.obm")
    assert code == 1
    assert "fc2.weight is not what its seed and mask give" in told


def test_without_its_packages_onnx_says_which_to_install(
    masked: ob.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    code, told = export(masked.directory, "--as", "onnx", tmp_path / "model.onnx")
    assert code == 1
    assert "needs onnx and onnxscript, which cannot be imported: pip install 'onebasin[onnx]'" in told


def test_help_shows_the_command() -> None:
    told = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert "export" in told
    assert "a seed and a mask" in told
