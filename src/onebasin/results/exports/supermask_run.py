"""Conversion of a finished run that trained masks to a seed + mask file."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onebasin.core.seeds import derive
from onebasin.learning.parametrizations.backbone_mask import BackboneMask
from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.learning.pretrained import Pretrained, read_pretrained
from onebasin.results.exports.finished import FinishedRun
from onebasin.results.exports.rebuilding import decoded_head, encode_unmasked, masked_layers, rebuild
from onebasin.results.exports.seed_mask import Description, SeedMask, Shape
from onebasin.wire.entropy import Flags

RTOL = 1e-4
"""Runs of older versions with masks of the highest scores have weights that differ from the drawn ones by rounding."""


def seed_mask_of(run: FinishedRun) -> SeedMask:
    """Return the run's model as the content of a seed + mask file.

    Raises ValueError when the run's method trains no mask, or when the file would not reproduce the model.
    """
    method, task = run.config.method, run.config.task
    parametrization, weights = method.parametrization, task.weights
    if not isinstance(parametrization, Supermask | BackboneMask):
        raise ValueError(
            f"--as seed-mask: {method.name!r} has method.parametrization={parametrization.kind!r}; only a "
            "supermask is a seed and a mask (onebasin run fedpm), and a backbone's mask its digest and a mask "
            "(onebasin run piggyback). Any model is written by --as safetensors"
        )
    backbone = None
    if isinstance(parametrization, BackboneMask) and weights is not None:
        backbone = read_pretrained(weights.file, weights.digest)
    layers = masked_layers(run.model, backbone is not None)
    # Only the settings that a reader needs are stored, without those of training.
    backbone_mask = (
        BackboneMask(over=parametrization.over) if isinstance(parametrization, BackboneMask) else BackboneMask()
    )
    description = Description(
        model=task.model.kind,
        options=task.model.options,
        input=run.input_shape,
        classes=run.classes,
        supermask=parametrization if isinstance(parametrization, Supermask) else Supermask(),
        backbone="" if backbone is None or weights is None else weights.digest,
        backbone_mask=backbone_mask,
        layers=layers,
    )
    masks = {name: _mask_of(run.model.get_parameter(name), shape) for name, shape in description.flags.items()}
    file = SeedMask(derive(run.config.seed, "init"), description, masks, encode_unmasked(run.model, description))
    _check_rebuilt_model(file.to_bytes(), run.model, backbone)
    return file


def _mask_of(weights: Tensor, shape: Shape) -> Flags:
    """Return the mask of masked weights: a flag is True when any weight that it covers is not zero.

    shape: of the mask; 1 along the axes that a neuron's flag covers. A kept weight whose value is zero gets the flag
    of a removed one, which gives the same model.
    """
    mask: Flags = ((weights != 0).sum_to_size(shape) > 0).numpy()
    return mask


def _check_rebuilt_model(data: bytes, model: nn.Module, backbone: Pretrained | None) -> None:
    """Raise ValueError when the model rebuilt from a file differs from the run's model."""
    file = SeedMask.from_bytes(data)
    rebuilt = rebuild(file, None if file.description.built_in else model, backbone).state_dict()
    expected = model.state_dict() | decoded_head(model, file.description)
    for name, tensor in expected.items():
        if not torch.allclose(rebuilt[name], tensor, rtol=RTOL, atol=0.0):
            raise ValueError(f"the run's {name} is not what its seed and mask give; export it --as safetensors")
