"""What the builders of models share: the error, option checks, normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class ModelError(ValueError):
    """A model that cannot be built or does not fit its data; the message says what was found and what expected."""


def positive(option: str, value: object) -> int:
    """The value, if it is a whole number above 0. Raises ModelError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"{option}: {value!r}; expected a whole number of at least 1")
    return value


def one_of(option: str, value: object, choices: Sequence[str]) -> str:
    """The value, if it is one of the choices. Raises ModelError."""
    if not isinstance(value, str) or value not in choices:
        raise ModelError(f"{option}: {value!r}; expected one of {', '.join(choices)}")
    return value


def image_shape(model: str, shape: Sequence[int]) -> tuple[int, int, int]:
    """(channels, height, width) of an input. Raises ModelError if it has other dimensions."""
    if len(shape) != 3:
        raise ModelError(f"{model} takes pictures [channels, height, width]; this data's inputs are {list(shape)}")
    return shape[0], shape[1], shape[2]


def norm_2d(norm: str, channels: int, groups: int) -> nn.Module:
    """BatchNorm2d, GroupNorm or nothing over `channels`."""
    match norm:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "group":
            if channels % groups:
                raise ModelError(f"groups: {groups}; expected a divisor of the layer's {channels} channels")
            return nn.GroupNorm(groups, channels)
    return nn.Identity()
