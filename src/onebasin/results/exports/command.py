"""What `onebasin export` does: a run's final model into one file."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch

from onebasin.core.atomic_write import write_whole
from onebasin.results.exports.finished import Finished, read_finished
from onebasin.results.exports.onnx import EXTRA, largest_difference, to_onnx
from onebasin.results.exports.supermask_run import seed_mask_of

KINDS = ("seed-mask", "safetensors", "onnx")


def export_run(run: Path, kind: str, out: Path) -> str:
    """Write the file; return a line on what it holds. Errors: ValueError, OSError, `OnnxError`; nothing is written."""
    if kind not in KINDS:
        raise ValueError(f"--as: {kind!r}; expected one of {', '.join(KINDS)}")
    finished = read_finished(run)
    if out.exists():
        raise FileExistsError(f"{out} exists already; name another file, or remove it first")
    write = {"seed-mask": _seed_mask, "safetensors": _safetensors, "onnx": _onnx}[kind]
    data, told = write(finished)
    write_whole(out, data)
    return f"{out}: {len(data):,} bytes, {told}"


def _seed_mask(run: Finished) -> tuple[bytes, str]:
    file = seed_mask_of(run)
    data, described = file.to_bytes(), file.description
    weights, flags = described.weights, sum(mask.size for mask in file.masks.values())
    beneath = "a backbone's digest" if described.backbone else "a seed"
    mask = f"a mask of {weights:,} weights" + (f" by {flags:,} flags" if flags < weights else "")
    return data, f"{8 * len(data) / weights:.3f} bits a weight: {beneath}, {mask}, and what model it is"


def _safetensors(run: Finished) -> tuple[bytes, str]:
    form = torch.contiguous_format
    tensors = {name: tensor.clone(memory_format=form) for name, tensor in run.model.state_dict().items()}
    return safetensors.torch.save(tensors, {"format": "pt"}), f"{len(tensors)} tensors"


def _onnx(run: Finished) -> tuple[bytes, str]:
    data = to_onnx(run.model, run.examples)
    difference = largest_difference(data, run.model, run.examples)
    if difference is None:
        return data, f"not checked: onnxruntime is missing ({EXTRA})"
    return data, f"checked: ONNX Runtime and PyTorch differ by at most {difference:.1e} on {len(run.examples)} examples"
