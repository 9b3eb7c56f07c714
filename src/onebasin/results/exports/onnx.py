"""A model as an ONNX graph, and ONNX Runtime's opinion of it."""

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
RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""How far ONNX Runtime's outputs may lie from PyTorch's: they add in other orders."""


class OnnxError(RuntimeError):
    """A model that cannot be said in ONNX, or that means something else there."""


def to_onnx(model: nn.Module, examples: Tensor) -> bytes:
    """Return the model as a file in ONNX's format, for batches of any size; weights are in it.

    examples: two inputs or more, [n, ...]. `OnnxError` when packages are missing or torch cannot export the model.
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
    except Exception as error:  # a user's model may do anything
        raise OnnxError(f"the model cannot be exported to ONNX: {type(error).__name__}: {error}") from error
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the console what the exporter says of its steps, and of packages that it would like to have."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def largest_difference(file: bytes, model: nn.Module, examples: Tensor) -> float | None:
    """Return how far ONNX Runtime's outputs lie from PyTorch's; None where it is not installed.

    `OnnxError` when they differ by more than rounding.
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
        found = torch.from_numpy(output)
        difference = float((found - expected).abs().max())
        if found.shape != expected.shape or not torch.allclose(found, expected, RELATIVE, ABSOLUTE):
            raise OnnxError(
                f"ONNX Runtime's outputs differ from PyTorch's by up to {difference:.3g}; nothing is written"
            )
        largest = max(largest, difference)
    return largest
