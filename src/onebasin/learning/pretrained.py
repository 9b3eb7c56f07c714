"""Weights that a model begins with, from a file that every side of a run holds; messages need not repeat them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor, nn

from onebasin.learning.masks.layers import Maskable
from onebasin.networks.weight_files import WeightFileError, read_tensors

DIGEST_BYTES = 16


class PretrainedError(ValueError):
    """Weights that cannot be begun with; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Pretrained:
    """A trained network. fresh_head: the last layer is not taken over; it is as the model draws it from its seed."""

    name: str
    tensors: Mapping[str, Tensor]
    fresh_head: bool = True

    def into(self, model: nn.Module) -> None:
        """Overwrite the model's parameters and buffers; `PretrainedError` names the first that does not fit."""
        expected = model.state_dict()
        head = head_of(model) if self.fresh_head else None
        taken = {name: tensor for name, tensor in expected.items() if name.rpartition(".")[0] != head}
        for name, tensor in taken.items():
            if name not in self.tensors:
                raise PretrainedError(f"{self.name}: has no tensor {name!r}, which the model has")
            found = self.tensors[name]
            if found.shape != tensor.shape or found.dtype != tensor.dtype:
                raise PretrainedError(
                    f"{self.name}: {name} is {list(found.shape)} of {found.dtype}; the model's is "
                    f"{list(tensor.shape)} of {tensor.dtype}"
                )
        unknown = [name for name in self.tensors if name not in expected]
        if unknown:
            raise PretrainedError(f"{self.name}: has a tensor {unknown[0]!r}, which the model has not")
        model.load_state_dict({name: self.tensors[name] for name in taken}, strict=False)


def head_of(model: nn.Module) -> str:
    """Return the name of a model's last linear or convolution layer; `PretrainedError` when there is none."""
    names: list[str] = [name for name, module in model.named_modules() if isinstance(module, Maskable)]
    if not names:
        raise PretrainedError("a model without linear or convolution layers has no last layer to draw anew")
    return names[-1]


def read_pretrained(file: str | Path, digest: str = "", fresh_head: bool = True) -> Pretrained:
    """Return the weights in a .safetensors file, or in the directory of a finished run.

    `PretrainedError` when there are none, or none with this digest ("" for any).
    """
    path = Path(file)
    if path.is_dir():
        path = path / "model.safetensors"
    try:
        tensors = read_tensors(path)
    except OSError as error:
        raise PretrainedError(f"{path}: {error.strerror or error}") from None
    except WeightFileError as error:
        raise PretrainedError(str(error)) from None
    found = digest_of(tensors)
    if digest and found != digest:
        raise PretrainedError(f"{path}: has the digest {found}; the weights that are meant have {digest}")
    return Pretrained(str(path), tensors, fresh_head)


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return 32 hex digits that name weights: BLAKE2b over names, types, shapes and values, in the order of names."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name} {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
