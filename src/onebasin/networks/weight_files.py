"""Reading .safetensors files that somebody else made."""

from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor


class WeightFileError(ValueError):
    """A file that holds no tensors that can be read; the message names it."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors in a file. `WeightFileError` when its format is another, `OSError` when it cannot be read."""
    try:
        return safetensors.torch.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise WeightFileError(f"{path}: not a safetensors file: {error}") from None
    except KeyError as error:  # the format has types that PyTorch has not
        raise WeightFileError(f"{path}: has values of type {error}, which cannot be read") from None
