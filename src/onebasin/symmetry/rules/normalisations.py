"""Rules of normalisation layers."""

from collections.abc import Sequence

from onebasin.symmetry.algebra import UNIT, Axes, length
from onebasin.symmetry.call import Call
from onebasin.symmetry.rules.registry import rule


@rule("native_layer_norm")
def layer_norm(call: Call) -> Sequence[Axes]:
    """Normalises over the last axes together, with a weight and a bias of their shape."""
    axes = call.axes("input")
    kept = len(axes) - len(call["normalized_shape"])
    for name in ("weight", "bias"):
        if call.get(name) is not None:
            for axis, other in zip(axes[kept:], call.axes(name), strict=True):
                call.unify(axis, other)
    call.couplings.mix(axes[:kept], axes[kept:])
    statistics = [*axes[:kept], *[UNIT] * len(axes[kept:])]
    return [axes, statistics, statistics]


@rule("_fused_rms_norm")
def rms_norm(call: Call) -> Sequence[Axes]:
    """Normalises over the last axes together, with a weight of their shape."""
    results = layer_norm(call)
    return results[:2]


@rule("native_group_norm")
def group_norm(call: Call) -> Sequence[Axes]:
    """Normalises over equal blocks of channels, each with all positions."""
    axes, count = call.axes("input"), call["group"]
    for name in ("weight", "bias"):
        if call.get(name) is not None:
            call.unify(axes[1], call.axes(name)[0])
    size = length(axes[1])
    couplings = call.couplings
    couplings.mix([axes[0], axes[1]], axes[2:])
    if 1 < count < size:
        couplings.keep_blocks(axes[1], count, call.cause("normalised in groups that do not fit"))
    statistics = [axes[0], call.rigid(count, "a statistic of each group")]
    return [axes, statistics, statistics]


@rule(
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_with_update",
    "_batch_norm_no_update",
    "_batch_norm_with_update_functional",
    "_native_batch_norm_legit_functional",
    "cudnn_batch_norm",
)
def batch_norm(call: Call) -> Sequence[Axes]:
    """Normalises each channel over the batch and all positions. Running statistics are written in place."""
    axes = call.axes("input")
    for name, value in call.arguments.items():
        if name != "input" and value is not None and any(value is tensor for tensor in call.inputs):
            call.unify(axes[1], call.axes(name)[0])
    call.couplings.mix([axes[1]], [axes[0], *axes[2:]])
    return [_output_axes(call, axes, number) for number in range(len(call.outputs))]


def _output_axes(call: Call, axes: Axes, number: int) -> Axes:
    """The axes of one output: the result, a statistic of each channel, or reserved data."""
    output = call.outputs[number]
    if not number:
        return axes
    if output.ndim == 1 and output.shape[0] == length(axes[1]):
        return [axes[1]]
    return [call.rigid(size, "reserved by batch normalisation") for size in output.shape]


@rule("_weight_norm_interface")
def weight_norm(call: Call) -> Sequence[Axes]:
    """A direction for each index of one axis, multiplied by a length. The lengths have the shape of the norms."""
    direction, lengths = call.axes("v"), call.axes("g")
    dim = call["dim"] % len(direction)
    sizes = call["g"].shape
    for axis_index, axis in enumerate(lengths):
        if sizes[axis_index] != 1:
            call.unify(axis, direction[axis_index])
    call.couplings.mix([direction[dim]], [axis for axis_index, axis in enumerate(direction) if axis_index != dim])
    norms = [axis if axis_index == dim else UNIT for axis_index, axis in enumerate(direction)]
    return [direction, norms]
