"""The optimisers of local training: PyTorch's by a short name, or any ``package.module:Name``."""

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
    """Return what makes the optimiser of a name; `ValueError` for one that does not exist.

    A reference such as ``torch.optim:RMSprop`` names anything that is called with parameters, ``lr`` and options.
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
    """Return the optimiser of a name over the parameters.

    momentum: of `sgd`; an optimiser from outside gets it and weight_decay only where they are not 0.
    """
    given = {"momentum": momentum, "weight_decay": weight_decay}
    if name in OPTIMIZERS:
        given = {key: given[key] for key in (("momentum", "weight_decay") if name == "sgd" else ("weight_decay",))}
    else:
        given = {key: value for key, value in given.items() if value}
    optimizer: torch.optim.Optimizer = optimizer_class(name)(parameters, lr=rate, **given, **options)
    return optimizer
