"""The `onebasin export` command: it writes a run's final model as one file."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch

from onebasin.core.atomic_write import write_atomically
from onebasin.results.exports.finished import FinishedRun, read_finished_run
from onebasin.results.exports.onnx import EXTRA, largest_difference, to_onnx
from onebasin.results.exports.supermask_run import seed_mask_of

KINDS = ("seed-mask", "safetensors", "onnx")


def export_run(run: Path, kind: str, out: Path) -> str:
    """Write the final model of the run in the directory `run` to the file `out`, and return a line that describes it.

    kind: one of `KINDS`. When an error is raised, nothing is written.
    Raises ValueError for an unknown `kind`, for a run that is not finished or has no common model, and for a model
    that this kind cannot represent; OSError when `out` exists or cannot be written; OnnxError when the ONNX export
    fails.
    """
    if kind not in KINDS:
        raise ValueError(f"--as: {kind!r}; expected one of {', '.join(KINDS)}")
    finished = read_finished_run(run)
    if out.exists():
        raise FileExistsError(f"{out} exists already; name another file, or remove it first")
    write = {"seed-mask": _seed_mask, "safetensors": _safetensors, "onnx": _onnx}[kind]
    data, description = write(finished)
    write_atomically(out, data)
    return f"{out}: {len(data):,} bytes, {description}"


def _seed_mask(run: FinishedRun) -> tuple[bytes, str]:
    file = seed_mask_of(run)
    data, description = file.to_bytes(), file.description
    weights, flags = description.weights, sum(mask.size for mask in file.masks.values())
    base = "a backbone's digest" if description.backbone else "a seed"
    mask = f"a mask of {weights:,} weights" + (f" by {flags:,} flags" if flags < weights else "")
    return data, f"{8 * len(data) / weights:.3f} bits a weight: {base}, {mask}, and what model it is"


def _safetensors(run: FinishedRun) -> tuple[bytes, str]:
    form = torch.contiguous_format
    tensors = {name: tensor.clone(memory_format=form) for name, tensor in run.model.state_dict().items()}
    return safetensors.torch.save(tensors, {"format": "pt"}), f"{len(tensors)} tensors"


def _onnx(run: FinishedRun) -> tuple[bytes, str]:
    data = to_onnx(run.model, run.examples)
    difference = largest_difference(data, run.model, run.examples)
    if difference is None:
        return data, f"not checked: onnxruntime is missing ({EXTRA})"
    return data, f"checked: ONNX Runtime and PyTorch differ by at most {difference:.1e} on {len(run.examples)} examples"
