"""The Euclidean norm of an update over all of its tensors, and updates scaled by a factor."""

import math

from onebasin.core.layout import Tensors


def length(tensors: Tensors) -> float:
    """Return the Euclidean norm over all values of all tensors, summed in float64."""
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors.values()))


def shortened(tensors: Tensors, factor: float) -> Tensors:
    """Return the tensors times a factor. Products are computed in float64 and rounded to each tensor's type."""
    return {name: (tensor.double() * factor).to(tensor.dtype) for name, tensor in tensors.items()}
