"""The command `onebasin merge`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from typer.testing import CliRunner

import onebasin as ob
from onebasin.alignment.forward_hooks import forward
from onebasin.apps.cli import app

HERE = Path(__file__).parents[1]
INPUTS = np.random.default_rng(0).normal(size=(60, 1, 8, 8)).astype(np.float32)


@pytest.fixture(autouse=True)
def own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def small(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 2))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A model, the same in another neuron order, and a third; and unlabelled inputs."""
    model = small(0)
    state = model.state_dict()
    spec = ob.find_permutations(model, torch.from_numpy(INPUTS[:2]))
    states = [state, spec.apply(state, spec.random(1)), small(2).state_dict()]
    for number, each in enumerate(states):
        safetensors.torch.save_file({n: v.contiguous() for n, v in each.items()}, tmp_path / f"{number}.safetensors")
    np.save(tmp_path / "inputs.npy", INPUTS)
    return [str(tmp_path / f"{number}.safetensors") for number in range(3)]


def merge(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["merge", *arguments])
    return done.exit_code, " ".join(done.output.split())


def test_two_orders_of_one_model_merge_into_it(files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "merged.safetensors"
    inputs = ("--inputs", str(tmp_path / "inputs.npy"))
    code, told = merge(*files[:2], "--model", "user_code:small", *inputs, "--out", str(out), "--way", "average")
    assert code == 0, told
    assert "1 groups permute" in told
    merged = safetensors.torch.load_file(out)
    x = torch.from_numpy(INPUTS)
    expected = forward(small(0), small(0).state_dict(), x)
    torch.testing.assert_close(forward(small(0), merged, x), expected, rtol=1e-4, atol=1e-5)
    facts = json.loads(out.with_suffix(".json").read_text())
    assert facts["groups"] == {"1": [12]}
    assert facts["chosen"] == "average"
    assert facts["likeness"]["after"]["1"] == pytest.approx(1.0)
    assert facts["likeness"]["before"]["1"] < 0.9
    assert set(facts["ways"]) == {"model 1", "model 2", "average", "repair", "rescale", "least-squares"}
    assert (tmp_path / "merged-neurons.png").stat().st_size > 1000
    assert not (tmp_path / "merged.png").exists(), "the loss needs labels"


def test_a_data_set_gives_scores_and_the_picture(files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "merged.safetensors"
    data = ("--data", "user_code:dataset", "--model", "user_code:network")
    runs = []
    for seed in (0, 1, 2):
        task = {"dataset": "user_code:dataset", "model": {"kind": "user_code:network"}, "clients": 2}
        config: Mapping[str, Any] = {"method": "fedavg", "seed": seed, "task": task, "federation": {"rounds": 2}}
        runs.append(ob.run(config, out=tmp_path / f"run-{seed}").directory)
    code, told = merge(*(str(run / "model.safetensors") for run in runs), *data, "--out", str(out), "--refine")
    assert code == 0, told
    assert "norm-reset" in told
    facts = json.loads(out.with_suffix(".json").read_text())
    assert all("accuracy" in row for row in facts["ways"].values())
    assert [len(lines) for lines in facts["lines"].values()] == [3, 3]
    assert (tmp_path / "merged.png").stat().st_size > 1000
    other = tmp_path / "of-runs.safetensors"
    code, told = merge(str(runs[0]), str(runs[1]), "--weights", "3,1", "--out", str(other))
    assert code == 0, told
    facts = json.loads(other.with_suffix(".json").read_text())
    assert list(facts["lines"]) == ["as they were", "aligned", "aligned and repaired"]
    ends = [(line["losses"][0], line["losses"][-1]) for (line,) in facts["lines"].values()]
    assert ends == [pytest.approx(ends[0])] * 3, "all ways begin and end at the models"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--way", "mend"], "--way: 'mend'; expected one of average, repair"),
        (["--way", "norm-reset"], "the model has no BatchNorm"),
        (["--weights", "1,x"], "--weights: '1,x'; expected numbers with commas"),
        (["--weights", "1,2,3"], "weights: [1.0, 2.0, 3.0]; expected 2 numbers"),
        (["--model", "user_code:nothing"], "'user_code:nothing' returned a str"),
        (["--model", "user_code:absent"], "has no 'absent'"),
        (["--model", "lenet5"], "a built-in model takes its shape from --data"),
        (["--inputs", "inputs.txt"], "No such file"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(
    change: list[str], message: str, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"--model": "user_code:small", "--inputs": "inputs.npy", "--out": "out.safetensors"}
    settings[change[0]] = change[1]
    code, told = merge(*files[:2], *(part for pair in settings.items() for part in pair))
    assert code == 1
    assert message in told
    assert not list(tmp_path.glob("out*"))


def test_files_that_do_not_fit_are_named(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = safetensors.torch.load_file(files[1])
    wrong: dict[str, tuple[Any, str]] = {
        "wide": ({**state, "1.bias": torch.zeros(13)}, "1.bias has shape [13]; the model's has [12]"),
        "less": ({n: v for n, v in state.items() if n != "3.bias"}, "has no tensor '3.bias', which the model has"),
        "more": ({**state, "extra": torch.zeros(1)}, "has a tensor 'extra', which the model has not"),
        "nan": ({**state, "1.bias": torch.full((12,), torch.nan)}, "1.bias has weights that are NaN or infinite"),
    }
    settings = ("--model", "user_code:small", "--inputs", "inputs.npy", "--out", "out.safetensors")
    for name, (tensors, message) in wrong.items():
        safetensors.torch.save_file(tensors, f"{name}.safetensors")
        code, told = merge(files[0], f"{name}.safetensors", *settings)
        assert code == 1
        assert f"{name}.safetensors: {message}" in told
    Path("junk.safetensors").write_bytes(b"junk")
    assert "junk.safetensors: not a safetensors file" in merge(files[0], "junk.safetensors", *settings)[1]
    assert "1 model was given; it takes two" in merge(files[0], *settings)[1]
    assert "No such file" in merge(files[0], "absent.safetensors", *settings)[1]
    assert "--model is missing" in merge(*files[:2], "--inputs", "inputs.npy")[1]
    assert "neither --data nor --inputs" in merge(*files[:2], "--model", "user_code:small")[1]
    np.save("one.npy", INPUTS[:1])
    one = ("--model", "user_code:small", "--inputs", "one.npy")
    assert "expected a .npy array of two examples or more" in merge(*files[:2], *one)[1]
    assert not list(tmp_path.glob("out*"))
