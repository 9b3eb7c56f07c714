"""From a finished run that trained masks to its seed, or backbone, and mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onebasin.core.seeds import derive
from onebasin.learning.parametrizations.backbone_mask import BackboneMask
from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.learning.pretrained import Pretrained, read_pretrained
from onebasin.results.exports.finished import Finished
from onebasin.results.exports.rebuilding import head_as_written, masked_layers, rebuild, write_beside
from onebasin.results.exports.seed_mask import Description, SeedMask, Shape
from onebasin.wire.entropy import Flags

ROUNDING = 1e-4
"""So far, relatively, lie weights of a mask of the highest scores from what was drawn, in runs of older versions."""


def seed_mask_of(run: Finished) -> SeedMask:
    """Return the run's model as a seed and a mask. `ValueError` when its method trains none, or they do not give it."""
    method, task = run.config.method, run.config.task
    trained, weights = method.parametrization, task.weights
    if not isinstance(trained, Supermask | BackboneMask):
        raise ValueError(
            f"--as seed-mask: {method.name!r} has method.parametrization={trained.kind!r}; only a "
            "supermask is a seed and a mask (onebasin run fedpm), and a backbone's mask its digest and a mask "
            "(onebasin run piggyback). Any model is written by --as safetensors"
        )
    backbone = None
    if isinstance(trained, BackboneMask) and weights is not None:
        backbone = read_pretrained(weights.file, weights.digest)
    layers = masked_layers(run.model, backbone is not None)
    description = Description(
        model=task.model.kind,
        options=task.model.options,
        input=run.input,
        classes=run.classes,
        supermask=trained if isinstance(trained, Supermask) else Supermask(),
        backbone="" if backbone is None or weights is None else weights.digest,
        backbone_mask=BackboneMask(over=trained.over) if isinstance(trained, BackboneMask) else BackboneMask(),
        layers=layers,
    )
    masks = {name: _kept(run.model.get_parameter(name), shape) for name, shape in description.flags.items()}
    beside = write_beside(run.model, description)
    file = SeedMask(derive(run.config.seed, "init"), description, masks, beside)
    _check(file.to_bytes(), run.model, backbone)
    return file


def _kept(weights: Tensor, shape: Shape) -> Flags:
    """The flags of weights that a mask was applied to: whether anything is left of what a flag is of.

    What was 0 before may be kept or not: it is 0 again.
    """
    kept: Flags = ((weights != 0).sum_to_size(shape) > 0).numpy()
    return kept


def _check(data: bytes, model: nn.Module, backbone: Pretrained | None) -> None:
    """Refuse to write what does not give the run's model back."""
    file = SeedMask.from_bytes(data)
    rebuilt = rebuild(file, None if file.description.built_in else model, backbone).state_dict()
    expected = model.state_dict() | head_as_written(model, file.description)
    for name, tensor in expected.items():
        if not torch.allclose(rebuilt[name], tensor, rtol=ROUNDING, atol=0.0):
            raise ValueError(f"the run's {name} is not what its seed and mask give; export it --as safetensors")
