"""Export of a model as an ONNX graph, and its verification with ONNX Runtime."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec

import torch
from torch import Tensor, nn

EXTRA = "pip install 'onebasin[onnx]'"
RTOL, ATOL = 1e-3, 1e-4
"""The largest accepted difference between the outputs of ONNX Runtime and PyTorch, which sum in different orders."""


class OnnxError(RuntimeError):
    """A model that cannot be exported to ONNX, or whose ONNX graph computes something else."""


def to_onnx(model: nn.Module, examples: Tensor) -> bytes:
    """Return the content of an ONNX file with the model and its weights, for batches of any size.

    examples: inputs [n, ...], n at least 2.
    Raises OnnxError when packages are missing or PyTorch cannot export the model.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise OnnxError(f"--as onnx needs {' and '.join(missing)}, which cannot be imported: {EXTRA}")
    batch = torch.export.Dim("batch")
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                (examples[:2],),
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=({0: batch},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # a user's model may raise any exception
        raise OnnxError(f"the model cannot be exported to ONNX: {type(error).__name__}: {error}") from error
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's output about its steps and about optional packages."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def largest_difference(file: bytes, model: nn.Module, examples: Tensor) -> float | None:
    """Return the largest absolute difference between the outputs of ONNX Runtime and PyTorch.

    file: the content of an ONNX file. examples: inputs [n, ...].
    None when ONNX Runtime is not installed. Raises OnnxError when the outputs differ by more than `RTOL` and `ATOL`.
    """
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in (examples, examples[:1]):
        with torch.no_grad():
            expected = model(batch)
        (output,) = session.run(None, {"input": batch.numpy()})
        actual = torch.from_numpy(output)
        difference = float((actual - expected).abs().max())
        if actual.shape != expected.shape or not torch.allclose(actual, expected, RTOL, ATOL):
            raise OnnxError(
                f"ONNX Runtime's outputs differ from PyTorch's by up to {difference:.3g}; nothing is written"
            )
        largest = max(largest, difference)
    return largest
