"""Rules of operations over positions: pooling, resampling, padding by reflection, unfolding. Channels are kept."""

from collections.abc import Sequence

from onebasin.symmetry.algebra import Axes
from onebasin.symmetry.call import Call
from onebasin.symmetry.rules.registry import rule
from onebasin.symmetry.rules.shapes import fix_order

POSITIONS = "neighbouring positions are mixed"

_OPERATIONS = {
    "avg_pool": (1, 2, 3),
    "_adaptive_avg_pool": (2, 3),
    "adaptive_avg_pool": (1, 2, 3),
    "adaptive_max_pool": (1, 2, 3),
    "fractional_max_pool": (2, 3),
    "reflection_pad": (1, 2, 3),
    "replication_pad": (1, 2, 3),
    "upsample_nearest": (1, 2, 3),
    "_upsample_nearest_exact": (1, 2, 3),
    "upsample_bilinear": (2,),
    "upsample_bicubic": (2,),
    "upsample_linear": (1,),
    "upsample_trilinear": (3,),
    "grid_sampler_": (2, 3),
    "max_unpool": (2, 3),
}
POSITION_DIMS = {f"{name}{count}d": count for name, counts in _OPERATIONS.items() for count in counts}
POSITION_DIMS |= {"max_pool2d_with_indices": 2, "max_pool3d_with_indices": 3, "_upsample_bilinear2d_aa": 2}
POSITION_DIMS |= {"_upsample_bicubic2d_aa": 2}


@rule(*POSITION_DIMS)
def positional(call: Call) -> Sequence[Axes]:
    """Mixes positions, the last dimensions; keeps all other axes, and positions that no window combines with others."""
    name = "input" if "input" in call.arguments else "self"
    axes, count = call.axes(name), POSITION_DIMS[call.name]
    kept = len(axes) - count
    positions = [kept + number for number in range(count) if not _keeps_positions(call, name, number, count)]
    for other in call.inputs:
        if other is call[name]:
            continue
        other_axes = call.axes_of(other)
        if call.name.startswith("max_unpool"):  # the other input has indices of positions, for each channel
            for axis, match in zip(axes[:kept], other_axes, strict=False):
                call.unify(axis, match)
            call.fix(other_axes[kept:], POSITIONS)
        else:  # the other input is a sampling grid for each example
            call.fix([axes[0], *other_axes], POSITIONS)
    result = fix_order(call, axes, positions, call.shape, POSITIONS)
    return [result for _ in call.outputs]


def _keeps_positions(call: Call, name: str, axis_index: int, count: int) -> bool:
    """Whether pooling windows or paddings leave the positions of one dimension unchanged."""
    if call.name.startswith(("avg_pool", "max_pool")):
        steps = call["stride"] or call["kernel_size"]
        sizes = [each[axis_index % len(each)] for each in (call["kernel_size"], steps, call["padding"])]
        return sizes == [1, 1, 0]
    if "adaptive" in call.name:
        return bool(call["output_size"][axis_index] == call[name].shape[axis_index - count])
    if call.name.startswith(("reflection_pad", "replication_pad")):
        pairs: Sequence[int] = call["padding"]
        return not any(pairs[2 * (count - 1 - axis_index) : 2 * (count - axis_index)])
    return False


@rule("unfold")
def unfold(call: Call) -> Sequence[Axes]:
    """Windows along one dimension. The last axis has the positions in a window."""
    axes = call.axes("self")
    result = fix_order(call, axes, [call["dimension"]], call.shape[:-1], POSITIONS)
    return [[*result, call.rigid(call.shape[-1], POSITIONS)]]


@rule("im2col")
def im2col(call: Call) -> Sequence[Axes]:
    """Rearranges [channels, height, width] to [channels * kernel, windows]."""
    axes = call.axes("self")
    size = call["kernel_size"][0] * call["kernel_size"][1]
    call.fix(axes[-2:], POSITIONS)
    taps, windows = call.rigid(size, POSITIONS), call.rigid(call.shape[-1], POSITIONS)
    call.couplings.mix(axes[:-2], [*axes[-2:], taps, windows])
    return [[*axes[:-3], (*axes[-3], *taps), windows]]
