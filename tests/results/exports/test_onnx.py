"""ONNX export, verified with ONNX Runtime; these tests need the extra: pip install 'onebasin[onnx]'."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onebasin as ob
from onebasin.learning.data.load import load_dataset
from onebasin.learning.models import built_in
from onebasin.results.exports.command import export_run
from onebasin.results.exports.onnx import OnnxError, largest_difference, to_onnx

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def built(name: str, shape: tuple[int, ...], **options: object) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return built_in(name, shape, 10, options).eval()


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("mlp", (1, 8, 8), {"norm": "batch"}),
        ("lenet5", (1, 28, 28), {}),
        pytest.param("cnn4", (1, 16, 16), {"norm": "group"}, marks=pytest.mark.slow),
        pytest.param("resnet20", (3, 32, 32), {}, marks=pytest.mark.slow),
        pytest.param("har-cnn", (9, 128), {}, marks=pytest.mark.slow),
        pytest.param("conv4", (1, 28, 28), {}, marks=pytest.mark.slow),
        pytest.param("gru", (80,), {}, marks=pytest.mark.slow),
        pytest.param("transformer", (80,), {}, marks=pytest.mark.slow),
    ],
)
def test_onnx_runtime_agrees_with_torch(name: str, shape: tuple[int, ...], options: dict[str, object]) -> None:
    model = built(name, shape, **options)
    generator = torch.Generator().manual_seed(1)
    if name in ("gru", "transformer"):
        examples = torch.randint(0, 10, (5, *shape), generator=generator)
    else:
        examples = torch.randn(5, *shape, generator=generator)
    data = to_onnx(model, examples)
    onnx.checker.check_model(onnx.load_from_string(data))
    difference = largest_difference(data, model, examples)
    assert difference is not None
    assert difference < 1e-4
    session = onnxruntime.InferenceSession(data)
    outputs = session.run(["output"], {"input": examples.numpy()})[0]
    assert np.allclose(outputs, model(examples).detach().numpy(), atol=1e-4)


def test_a_graph_with_other_weights_is_detected() -> None:
    examples = torch.randn(4, 1, 8, 8)
    data = to_onnx(built("mlp", (1, 8, 8)), examples)
    other = built("mlp", (1, 8, 8))
    with torch.no_grad():
        other.get_parameter("fc2.bias")[3] += 0.01
    with pytest.raises(OnnxError, match=r"differ from PyTorch's by up to 0\.01; nothing is written"):
        largest_difference(data, other, examples)


def test_the_command_checks_what_it_writes(tmp_path: Path) -> None:
    run = ob.run("fedpm", ["federation.rounds=1", "training.epochs=1"], out=tmp_path / "run")
    line = export_run(run.directory, "onnx", tmp_path / "model.onnx")
    assert "checked: ONNX Runtime and PyTorch differ by at most" in line
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    examples = load_dataset("digits").test.inputs
    assert run.model is not None
    (outputs,) = session.run(None, {"input": examples.numpy()})
    assert np.allclose(outputs, run.model(examples).detach().numpy(), atol=1e-4)


class DataDependent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


def test_a_model_that_cannot_be_traced_raises_onnx_error() -> None:
    with pytest.raises(OnnxError, match="cannot be exported to ONNX"):
        to_onnx(DataDependent(), torch.ones(2, 3))
