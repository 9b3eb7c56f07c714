"""Operations over positions: pooling, resampling, padding by reflection, unfolding. Channels are left alone."""

from collections.abc import Sequence

from onebasin.symmetry.algebra import Axes
from onebasin.symmetry.call import Call
from onebasin.symmetry.rules.registry import rule
from onebasin.symmetry.rules.shapes import unordered

POSITIONS = "neighbouring positions are mixed"

_POOLS = {
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
DIMENSIONS = {f"{name}{count}d": count for name, counts in _POOLS.items() for count in counts}
DIMENSIONS |= {"max_pool2d_with_indices": 2, "max_pool3d_with_indices": 3, "_upsample_bilinear2d_aa": 2}
DIMENSIONS |= {"_upsample_bicubic2d_aa": 2}


@rule(*DIMENSIONS)
def over_positions(call: Call) -> Sequence[Axes]:
    """The last dimensions are positions; every other axis is kept, and positions that windows do not reach across."""
    name = "input" if "input" in call.arguments else "self"
    axes, count = call.axes(name), DIMENSIONS[call.name]
    kept = len(axes) - count
    positions = [kept + place for place in range(count) if not _one_by_one(call, name, place, count)]
    for other in call.inputs:
        if other is call[name]:
            continue
        beside = call.axes_of(other)
        if call.name.startswith("max_unpool"):  # places in each channel
            for axis, match in zip(axes[:kept], beside, strict=False):
                call.unify(axis, match)
            call.fix(beside[kept:], POSITIONS)
        else:  # a grid for each picture of the batch
            call.fix([axes[0], *beside], POSITIONS)
    result = unordered(call, axes, positions, call.shape, POSITIONS)
    return [result for _ in call.outputs]


def _one_by_one(call: Call, name: str, place: int, count: int) -> bool:
    """Whether pooling windows, or padding, leave the positions of one dimension as they are."""
    if call.name.startswith(("avg_pool", "max_pool")):
        steps = call["stride"] or call["kernel_size"]
        sizes = [each[place % len(each)] for each in (call["kernel_size"], steps, call["padding"])]
        return sizes == [1, 1, 0]
    if "adaptive" in call.name:
        return bool(call["output_size"][place] == call[name].shape[place - count])
    if call.name.startswith(("reflection_pad", "replication_pad")):
        pairs: Sequence[int] = call["padding"]
        return not any(pairs[2 * (count - 1 - place) : 2 * (count - place)])
    return False


@rule("unfold")
def unfold(call: Call) -> Sequence[Axes]:
    """Windows along one dimension; a last axis holds the places in a window."""
    axes = call.axes("self")
    result = unordered(call, axes, [call["dimension"]], call.shape[:-1], POSITIONS)
    return [[*result, call.rigid(call.shape[-1], POSITIONS)]]


@rule("im2col")
def im2col(call: Call) -> Sequence[Axes]:
    """[channels, height, width] becomes [channels * kernel, positions]."""
    axes = call.axes("self")
    size = call["kernel_size"][0] * call["kernel_size"][1]
    call.fix(axes[-2:], POSITIONS)
    taps, places = call.rigid(size, POSITIONS), call.rigid(call.shape[-1], POSITIONS)
    call.couplings.mix(axes[:-2], [*axes[-2:], taps, places])
    return [[*axes[:-3], (*axes[-3], *taps), places]]
