"""Pretrained weights: initial weights from a file that the server and all clients have, so that no message has them."""

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
    """The pretrained weights cannot be used. The message names the file and what is wrong."""


@dataclass(frozen=True)
class Pretrained:
    """The weights of a trained network.

    name: of the file, for error messages.
    tensors: parameters and buffers by name.
    fresh_head: keep the model's own last layer, which is drawn from its seed.
    """

    name: str
    tensors: Mapping[str, Tensor]
    fresh_head: bool = True

    def into(self, model: nn.Module) -> None:
        """Overwrite the parameters and buffers of a model in place.

        Raises PretrainedError, which names the first tensor that is missing, unknown, or of another shape or type.
        """
        expected = model.state_dict()
        head = head_of(model) if self.fresh_head else None
        replaced = {name: tensor for name, tensor in expected.items() if name.rpartition(".")[0] != head}
        for name, tensor in replaced.items():
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
        model.load_state_dict({name: self.tensors[name] for name in replaced}, strict=False)


def head_of(model: nn.Module) -> str:
    """Return the name of a model's last linear or convolution layer. Raises PretrainedError if there is none."""
    names: list[str] = [name for name, module in model.named_modules() if isinstance(module, Maskable)]
    if not names:
        raise PretrainedError("a model without linear or convolution layers has no last layer to draw anew")
    return names[-1]


def read_pretrained(file: str | Path, digest: str = "", fresh_head: bool = True) -> Pretrained:
    """Read the weights of a .safetensors file, or of the directory of a finished run.

    digest: the expected `digest_of` the tensors; "" for any.
    fresh_head: as in `Pretrained`.
    Raises PretrainedError if the file cannot be read, or if it has another digest.
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
    """Return a digest of tensors, 32 hex digits: BLAKE2b over names, types, shapes and values, sorted by name."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name} {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
