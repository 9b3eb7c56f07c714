"""From a finished supermask run to its seed and mask."""

from __future__ import annotations

import torch
from torch import nn

from onebasin.choices import Supermask
from onebasin.exports.finished import Finished
from onebasin.exports.rebuilding import masked_layers, rebuild
from onebasin.exports.seed_mask import Description, SeedMask
from onebasin.seeds import derive
from onebasin.training.weights import buffers_of
from onebasin.updates.dense import Exact
from onebasin.wire.layout import Layout

ROUNDING = 1e-4
"""So far, relatively, may weights of a mask of the highest scores lie from what was drawn (training/supermask.py)."""


def seed_mask_of(run: Finished) -> SeedMask:
    """Return the run's model as a seed and a mask. `ValueError` when its method trains none, or they do not give it."""
    method, task = run.config.method, run.config.task
    if not isinstance(method.parametrization, Supermask):
        raise ValueError(
            f"--as seed-mask: {method.name!r} has method.parametrization={method.parametrization.kind!r}; only a "
            "supermask is a seed and a mask (onebasin run fedpm). Any model is written by --as safetensors"
        )
    layers = masked_layers(run.model)
    description = Description(
        model=task.model.kind,
        options=task.model.options,
        input=run.input,
        classes=run.classes,
        supermask=method.parametrization,
        layers=layers,
    )
    masks = {name: (run.model.get_parameter(name) != 0).numpy() for name in layers}
    buffers = buffers_of(run.model)
    file = SeedMask(derive(run.config.seed, "init"), description, masks, Exact(Layout.of(buffers)).encode(buffers))
    _check(file.to_bytes(), run.model)
    return file


def _check(data: bytes, model: nn.Module) -> None:
    """Refuse to write what does not give the run's model back."""
    file = SeedMask.from_bytes(data)
    rebuilt = rebuild(file, None if file.description.built_in else model).state_dict()
    for name, tensor in model.state_dict().items():
        if not torch.allclose(rebuilt[name], tensor, rtol=ROUNDING, atol=0.0):
            raise ValueError(f"the run's {name} is not what its seed and mask give; export it --as safetensors")
