"""Rules of views and other rearrangements of elements: reshape, transpose, slice, split, cat, pad, repeat."""

from collections.abc import Sequence
from itertools import pairwise

from onebasin.symmetry.algebra import (
    UNIT,
    Axes,
    Axis,
    concatenated,
    fresh,
    is_rigid,
    length,
    reshape_axes,
    resolve,
    split_axis,
)
from onebasin.symmetry.call import Call
from onebasin.symmetry.rules.registry import rule
from onebasin.symmetry.tracer_protocol import CONSTANT

ORDER = "the order of its indices matters"


@rule("view", "_unsafe_view", "_reshape_alias", "reshape")
def view(call: Call) -> Sequence[Axes]:
    """Splits and multiplies axes in row-major order."""
    if call.get("dtype") is not None:
        call.fix(call.axes("self"), "its bits were read as another type")
        return [[call.rigid(size, "its bits were read as another type") for size in call.shape]]
    return [reshape_axes(call.axes("self"), call.shape, call.cause("reshaped to sizes that do not fit"))]


@rule("transpose", "t", "permute")
def permute(call: Call) -> Sequence[Axes]:
    """Reorders axes."""
    axes = call.axes("self")
    if call.name == "permute":
        return [[axes[dim] for dim in call["dims"]]]
    if call.name == "t":
        return [axes[::-1]]
    first, second = call["dim0"], call["dim1"]
    axes = list(axes)
    if axes:
        axes[first], axes[second] = axes[second], axes[first]
    return [axes]


@rule("unsqueeze")
def unsqueeze(call: Call) -> Sequence[Axes]:
    """Inserts an axis of length one."""
    axes = list(call.axes("self"))
    axes.insert(call["dim"] % (len(axes) + 1), UNIT)
    return [axes]


@rule("squeeze")
def squeeze(call: Call) -> Sequence[Axes]:
    """Removes axes of length one."""
    axes = call.axes("self")
    dims = call.get("dim")
    if dims is None:
        dims = range(len(axes))
    dropped = {dim % max(len(axes), 1) for dim in ([dims] if isinstance(dims, int) else dims)}
    return [[axis for axis_index, axis in enumerate(axes) if length(axis) != 1 or axis_index not in dropped]]


@rule("expand")
def expand(call: Call) -> Sequence[Axes]:
    """Adds axes of equal slices. Any permutation of equal slices changes nothing, so the new axes are free."""
    axes = call.axes("self")
    added = len(call.shape) - len(axes)
    given = [1] * added + list(call["self"].shape)
    axes = [UNIT] * added + list(axes)
    return [[fresh(size) if size != had else axis for size, had, axis in zip(call.shape, given, axes, strict=True)]]


@rule("repeat")
def repeat(call: Call) -> Sequence[Axes]:
    """Concatenates copies: an outer axis of equal slices."""
    axes = call.axes("self")
    axes = [UNIT] * (len(call["repeats"]) - len(axes)) + list(axes)
    return [[(*fresh(times), *axis) for times, axis in zip(call["repeats"], axes, strict=True)]]


@rule("repeat_interleave")
def repeat_interleave(call: Call) -> Sequence[Axes]:
    """Repeats each index several times in succession: an inner axis of equal slices."""
    axes = call.axes("self") if "self" in call.arguments else []
    times, dim = call.get("repeats"), call.get("dim")
    if isinstance(times, int) and isinstance(dim, int):
        axes = list(axes)
        axes[dim] = (*axes[dim], *fresh(times))
        return [axes]
    for tensor in call.inputs:
        call.fix(call.axes_of(tensor), ORDER)
    return [[call.rigid(size, ORDER) for size in call.shape]]


@rule("select")
def select(call: Call) -> Sequence[Axes]:
    """Takes one index of an axis."""
    return [take_index(call, call.axes("self"), call["dim"], call["index"])]


@rule("unbind")
def unbind(call: Call) -> Sequence[Axes]:
    """Takes every index of an axis."""
    axes = call.axes("self")
    return [take_index(call, axes, call["dim"], index) for index in range(len(call.outputs))]


def take_index(call: Call, axes: Axes, dim: int, index: int) -> Axes:
    """The axes of a tensor at one index of `dim`."""
    dim %= len(axes)
    index %= max(length(axes[dim]), 1)
    if length(axes[dim]) == 1:
        return axes[:dim] + axes[dim + 1 :]
    return call.couplings.pick(axes, dim, index, call.cause("one index was taken from it"))


@rule("slice")
def slice_(call: Call) -> Sequence[Axes]:
    """A contiguous range of an axis, or every n-th index of it."""
    axes = list(call.axes("self"))
    dim, step = call["dim"] % len(axes), call["step"]
    size = call["self"].shape[dim]
    begin = call.get("start") or 0
    begin = max(0, begin + size) if begin < 0 else min(begin, size)
    if step != 1:
        return [_narrow_with_step(call, axes, dim, begin, step)]
    return [_narrow(call, axes, dim, begin, begin + call.shape[dim])]


def _narrow(call: Call, axes: Axes, dim: int, begin: int, end: int) -> Axes:
    """The axes of a tensor restricted to the indices from `begin` to `end` of `dim`."""
    size = length(axes[dim])
    if (begin, end) == (0, size):
        return list(axes)
    if begin == end:
        return [*axes[:dim], call.rigid(0, ORDER), *axes[dim + 1 :]]
    if end - begin == 1:
        axes = take_index(call, axes, dim, begin)
        return [*axes[:dim], UNIT, *axes[dim:]]
    axis = axes[dim]
    if end < size:
        axis, _ = split_axis(axis, end)
    if begin:
        _, axis = split_axis(axis, begin)
    return [*axes[:dim], axis, *axes[dim + 1 :]]


def _narrow_with_step(call: Call, axes: Axes, dim: int, begin: int, step: int) -> Axes:
    """The axes of a tensor restricted to every `step`-th index of `dim`."""
    size, result_size = length(axes[dim]), call.shape[dim]
    if begin < step and result_size * step == size and not is_rigid(axes[dim]):
        rows = reshape_axes([axes[dim]], [result_size, step], call.cause("reshaped to sizes that do not fit"))
        return take_index(call, [*axes[:dim], *rows, *axes[dim + 1 :]], dim + 1, begin)
    return fix_order(call, axes, [dim], call.shape)


def fix_order(call: Call, axes: Axes, dims: Sequence[int], sizes: Sequence[int], reason: str = ORDER) -> Axes:
    """The axes after an operation that depends on the order along `dims` and is independent along the others."""
    dims = [dim % len(axes) for dim in dims]
    call.fix([axes[dim] for dim in dims], reason)
    result = [call.rigid(sizes[dim], reason) if dim in dims else axis for dim, axis in enumerate(axes)]
    others = [axis for dim, axis in enumerate(axes) if dim not in dims]
    call.couplings.mix(others, [each[dim] for dim in dims for each in (axes, result)])
    return result


@rule("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk")
def split(call: Call) -> Sequence[Axes]:
    """Consecutive ranges of an axis."""
    axes = call.axes("self")
    dim = call["dim"] % len(axes)
    ends = [0]
    for tensor in call.outputs:
        ends.append(ends[-1] + tensor.shape[dim])
    return [_narrow(call, axes, dim, begin, end) for begin, end in pairwise(ends)]


@rule("cat", "_cat")
def cat(call: Call) -> Sequence[Axes]:
    """Concatenates tensors: a sum along one axis, the same permutation along the others."""
    dim = call["dim"] % len(call.shape)
    tensors = [tensor for tensor in call["tensors"] if tensor.ndim > dim and tensor.shape[dim]]
    operands = [call.axes_of(tensor) for tensor in tensors]
    if all(tensor.shape[dim] == 1 for tensor in tensors):
        return [stack_axes(call, [axes[:dim] + axes[dim + 1 :] for axes in operands], dim)]
    result = list(operands[0])
    for axes in operands[1:]:
        for axis_index, axis in enumerate(axes):
            if axis_index != dim:
                call.unify(result[axis_index], axis)
    result[dim] = concatenated(axes[dim] for axes in operands)
    constants = [
        (axes[dim], tensor.flatten()[0].item())
        for tensor, axes in zip(tensors, operands, strict=True)
        if call.tracer.depends_on(tensor) == CONSTANT and bool((tensor == tensor.flatten()[0]).all())
    ]
    for (first, value), (second, other) in pairwise(constants):
        if value == other:
            call.couplings.paddings.append((first, second))
    return [result]


@rule("stack", "_stack")
def stack(call: Call) -> Sequence[Axes]:
    """Stacks tensors: a new axis that keeps its order, the same permutation along the others."""
    operands = [call.axes_of(tensor) for tensor in call["tensors"]]
    return [stack_axes(call, operands, call["dim"] % len(call.shape))]


def stack_axes(call: Call, operands: Sequence[Axes], dim: int) -> Axes:
    """The axes of tensors that are stacked along a new axis.

    Where their axes differ, later operations on the stack decide whether they must have the same permutation.
    """
    stack_axis = call.rigid(len(operands), "tensors were stacked")
    result: list[Axis] = []
    for axes in zip(*operands, strict=True):
        equal = len({resolve(axis) for axis in axes}) == 1
        result.append(axes[0] if equal else call.couplings.stack(axes, stack_axis, call.cause("stacked")))
    result.insert(dim, stack_axis)
    return result


@rule("constant_pad_nd")
def constant_pad_nd(call: Call) -> Sequence[Axes]:
    """Pads an axis with constants, which become neurons of their own. Negative paddings remove indices."""
    axes = list(call.axes("self"))
    paddings = call["pad"]
    for axis_index in range(len(paddings) // 2):
        before, after = paddings[2 * axis_index : 2 * axis_index + 2]
        dim = len(axes) - 1 - axis_index
        size = length(axes[dim])
        axes = _narrow(call, axes, dim, max(0, -before), size - max(0, -after))
        padded: list[Axis] = [fresh(before)] if before > 0 else []
        padded.append(axes[dim])
        padded.extend([fresh(after)] if after > 0 else [])
        axes[dim] = concatenated(padded)
        if len(padded) == 3:
            call.couplings.paddings.append((padded[0], padded[2]))
    return [axes]


@rule("as_strided")
def as_strided(call: Call) -> Sequence[Axes]:
    """Any view of the memory. It is understood if it only reorders dimensions."""
    return [call.tracer.view_axes(call.outputs[0])]


@rule("glu")
def glu(call: Call) -> Sequence[Axes]:
    """Multiplies the first half of an axis by a gate from the second half."""
    axes = call.axes("self")
    dim = call["dim"] % len(axes)
    half = call.shape[dim]
    first, second = (_narrow(call, axes, dim, begin, begin + half) for begin in (0, half))
    call.unify(first[dim], second[dim])
    return [first]


@rule("diagonal")
def diagonal(call: Call) -> Sequence[Axes]:
    """The diagonal of two axes. For the main diagonal both get the same permutation."""
    axes = call.axes("self")
    first, second = call["dim1"] % len(axes), call["dim2"] % len(axes)
    rest = [axis for dim, axis in enumerate(axes) if dim not in (first, second)]
    call.couplings.mix(rest, [axes[first], axes[second]])
    if call["offset"] == 0 and length(axes[first]) == length(axes[second]):
        call.unify(axes[first], axes[second])
        return [[*rest, resolve(axes[first])]]
    call.fix([axes[first], axes[second]], ORDER)
    return [[*rest, call.rigid(call.shape[-1], ORDER)]]


@rule("flip", "roll", "rot90")
def reorder(call: Call) -> Sequence[Axes]:
    """Changes the order of some axes."""
    axes = call.axes("self")
    dims = list(call["dims"]) or list(range(len(axes)))
    return [fix_order(call, axes, dims, call.shape)]


@rule("tril", "triu")
def triangle(call: Call) -> Sequence[Axes]:
    """Sets elements on one side of a diagonal of the last two axes to zero."""
    return [fix_order(call, call.axes("self"), [-2, -1], call.shape)]


@rule("native_channel_shuffle", "channel_shuffle")
def channel_shuffle(call: Call) -> Sequence[Axes]:
    """Reorders channels from [groups, rest] to [rest, groups]."""
    axes = list(call.axes("self"))
    groups = call["groups"]
    sizes = [groups, length(axes[1]) // groups]
    outer, inner = reshape_axes([axes[1]], sizes, call.cause("shuffled in groups that do not fit"))
    axes[1] = (*inner, *outer)
    return [axes]


@rule("pixel_shuffle")
def pixel_shuffle(call: Call) -> Sequence[Axes]:
    """Rearranges [channels * r * r, height, width] to [channels, height * r, width * r]."""
    axes = call.axes("self")
    factor = call["upscale_factor"]
    sizes = [length(axes[-3]) // factor**2, factor, factor]
    channels, down, right = reshape_axes([axes[-3]], sizes, call.cause("shuffled in groups that do not fit"))
    return [[*axes[:-3], channels, (*axes[-2], *down), (*axes[-1], *right)]]
