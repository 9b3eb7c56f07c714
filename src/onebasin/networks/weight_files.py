"""Reading of .safetensors files from other sources."""

from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor


class WeightFileError(ValueError):
    """A file without readable tensors. The message names the file."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors in a file by name.

    Errors: `WeightFileError` if the format is not safetensors or a type is unknown to PyTorch, `OSError` if the file
    cannot be read.
    """
    try:
        return safetensors.torch.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise WeightFileError(f"{path}: not a safetensors file: {error}") from None
    except KeyError as error:  # safetensors has types that PyTorch lacks
        raise WeightFileError(f"{path}: has values of type {error}, which cannot be read") from None
