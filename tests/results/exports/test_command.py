"""The `onebasin export` command, and `ob.load` of the files that it writes."""

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
def user_code_path() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS))
        yield


def finished_run(folder: Path, method: str, *overrides: str, **task: Any) -> ob.Run:
    base = {"method": method, "federation": {"rounds": 2}, "training": {"epochs": 1}, "task": {"clients": 4, **task}}
    return ob.run(read_config(base, overrides), out=folder)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> ob.Run:
    return finished_run(tmp_path_factory.mktemp("runs") / "masked", "fedpm")


def export(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["export", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def test_a_mask_reproduces_the_runs_model_and_accuracy(masked: ob.Run, tmp_path: Path) -> None:
    out = tmp_path / "model.obm"
    code, output = export(masked.directory, "--as", "seed-mask", out)
    assert code == 0, output
    size = out.stat().st_size
    assert f"{size:,} bytes" in output
    assert "4,736 weights" in output
    assert 0.9 * 4736 / 8 < size < 4736 / 8 + 150
    loaded = ob.load(out)
    assert masked.model is not None
    for name, tensor in masked.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert evaluate(loaded, load_dataset("digits").test).accuracy == masked.summary["accuracy"]["final"]


@pytest.mark.parametrize(
    "override", [(), ("method.parametrization.kept=highest", "method.parametrization.density=0.3")]
)
def test_a_users_model_with_batch_statistics(override: tuple[str, ...], tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", "fedpm", *override, dataset="user_code:dataset", model="user_code:network")
    out = tmp_path / "model.obm"
    code, output = export(run.directory, "--as", "seed-mask", out)
    assert code == 0, output
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


def test_low_rank_factors_are_exported_as_plain_weights(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", "fedpara")
    out = tmp_path / "model.safetensors"
    code, output = export(run.directory, "--as", "safetensors", out)
    assert code == 0, output
    state = safetensors.torch.load_file(out)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    plain.load_state_dict({name.replace("fc1", "1").replace("fc2", "3"): tensor for name, tensor in state.items()})
    x = load_dataset("digits").test.inputs
    assert run.model is not None
    assert torch.equal(plain(x), run.model(x))


def test_what_cannot_be_exported_is_an_error(masked: ob.Run, tmp_path: Path) -> None:
    out = tmp_path / "model.obm"
    dense = finished_run(tmp_path / "dense", "fedavg").directory
    alone = finished_run(tmp_path / "alone", "local-only").directory
    cut_off = tmp_path / "cut-off"
    shutil.copytree(masked.directory, cut_off)
    (cut_off / "summary.json").unlink()
    existing = tmp_path / "existing.obm"
    existing.write_text("mine")
    cases = [
        ((tmp_path, "--as", "seed-mask", out), "holds no run: it has no config.toml"),
        ((tmp_path / "nowhere", "--as", "seed-mask", out), "holds no run"),
        ((cut_off, "--as", "seed-mask", out), f"is not finished; go on with: onebasin run --resume {cut_off}"),
        ((alone, "--as", "safetensors", out), "has no common model: with 'local-only' every client has its own"),
        ((dense, "--as", "seed-mask", out), "'fedavg' has method.parametrization='dense'; only a supermask"),
        ((masked.directory, "--as", "pickle", out), "'pickle'; expected one of seed-mask, safetensors, onnx"),
        ((masked.directory, "--as", "seed-mask", existing), "exists already"),
        ((masked.directory, "--as", "seed-mask", tmp_path / "no" / "folder.obm"), "No such file"),
    ]
    for arguments, message in cases:
        code, output = export(*arguments)
        assert code == 1
        assert message.replace(" ", "") in output.replace(" ", "")  # the console breaks long paths
    assert not out.exists()
    assert existing.read_text() == "mine"


def test_weights_that_were_changed_are_not_exported_as_a_mask(masked: ob.Run, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(masked.directory, changed)
    state = safetensors.torch.load_file(changed / "model.safetensors")
    state["fc2.weight"] *= 1.001
    safetensors.torch.save_file(state, changed / "model.safetensors")
    code, output = export(changed, "--as", "seed-mask", tmp_path / "model.obm")
    assert code == 1
    assert "fc2.weight is not what its seed and mask give" in output


def test_without_its_packages_onnx_says_which_to_install(
    masked: ob.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    code, output = export(masked.directory, "--as", "onnx", tmp_path / "model.onnx")
    assert code == 1
    assert "needs onnx and onnxscript, which cannot be imported: pip install 'onebasin[onnx]'" in output


def test_help_shows_the_command() -> None:
    output = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert "export" in output
    assert "a seed and a mask" in output
