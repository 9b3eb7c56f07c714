"""The error, option checks and normalisation layers that model builders share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class ModelError(ValueError):
    """A model cannot be built or does not fit its data. The message names what was found and what was expected."""


def positive(option: str, value: object) -> int:
    """Return the value if it is a whole number of at least 1. Raises ModelError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"{option}: {value!r}; expected a whole number of at least 1")
    return value


def one_of(option: str, value: object, choices: Sequence[str]) -> str:
    """Return the value if it is one of the choices. Raises ModelError."""
    if not isinstance(value, str) or value not in choices:
        raise ModelError(f"{option}: {value!r}; expected one of {', '.join(choices)}")
    return value


def image_shape(model: str, shape: Sequence[int]) -> tuple[int, int, int]:
    """Return (channels, height, width) of an input. Raises ModelError if it does not have three dimensions."""
    if len(shape) != 3:
        raise ModelError(f"{model} takes pictures [channels, height, width]; this data's inputs are {list(shape)}")
    return shape[0], shape[1], shape[2]


def norm_2d(norm: str, channels: int, groups: int) -> nn.Module:
    """Return a BatchNorm2d ("batch"), a GroupNorm ("group") or an identity over `channels`.

    Raises ModelError if the number of groups does not divide the number of channels.
    """
    match norm:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "group":
            if channels % groups:
                raise ModelError(f"groups: {groups}; expected a divisor of the layer's {channels} channels")
            return nn.GroupNorm(groups, channels)
    return nn.Identity()
