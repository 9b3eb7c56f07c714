"""Optimisers of local training: PyTorch's by a short name, others by ``package.module:Name``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import FunctionType, MappingProxyType
from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from torch import nn

from onebasin.core.references import FactoryError, resolve
from onebasin.core.registry import reference_of

OPTIMIZERS: Mapping[str, type[torch.optim.Optimizer]] = MappingProxyType(
    {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
)


def optimizer_class(name: str) -> Any:
    """Return the class, or function, that creates the optimiser of this name.

    name: a key of `OPTIMIZERS`, a name that an installed package announces, or a reference such as
    ``torch.optim:RMSprop`` to something that is called with the parameters, `lr` and options.
    Raises ValueError if there is none.
    """
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    reference = reference_of("optimizer", name)
    if reference is None:
        raise ValueError(f"expected one of {', '.join(OPTIMIZERS)}, or package.module:Name such as torch.optim:RMSprop")
    try:
        found = resolve(reference)
    except FactoryError as error:
        raise ValueError(str(error)) from None
    if not isinstance(found, type | FunctionType):
        raise ValueError(f"{name!r} is a {type(found).__name__}; expected an optimiser's class, or a function")
    return found


def _known(name: str) -> str:
    optimizer_class(name)
    return name


OptimizerName = Annotated[str, AfterValidator(_known)]


def build_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    rate: float,
    momentum: float,
    weight_decay: float,
    options: Mapping[str, Any],
) -> torch.optim.Optimizer:
    """Create an optimiser of the parameters.

    name: as in `optimizer_class`.
    rate: the learning rate.
    momentum: ignored by `adam` and `adamw`. An optimiser from outside gets it, and `weight_decay`, only if not 0.
    options: further arguments of the optimiser.
    """
    given = {"momentum": momentum, "weight_decay": weight_decay}
    if name in OPTIMIZERS:
        given = {key: given[key] for key in (("momentum", "weight_decay") if name == "sgd" else ("weight_decay",))}
    else:
        given = {key: value for key, value in given.items() if value}
    optimizer: torch.optim.Optimizer = optimizer_class(name)(parameters, lr=rate, **given, **options)
    return optimizer
