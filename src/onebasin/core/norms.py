"""The length of an update: the Euclidean norm of all its values together."""

import math

from onebasin.core.layout import Tensors


def length(tensors: Tensors) -> float:
    """Return the norm over all tensors, summed in float64."""
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors.values()))


def shortened(tensors: Tensors, factor: float) -> Tensors:
    """Return the tensors times a factor."""
    return {name: (tensor.double() * factor).to(tensor.dtype) for name, tensor in tensors.items()}
