"""Views, and whatever else only rearranges elements: reshape, transpose, slice, split, cat, pad, repeat."""

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
    """Row-major: axes are split and multiplied."""
    if call.get("dtype") is not None:
        call.fix(call.axes("self"), "its bits were read as another type")
        return [[call.rigid(size, "its bits were read as another type") for size in call.shape]]
    return [reshape_axes(call.axes("self"), call.shape, call.cause("reshaped to sizes that do not fit"))]


@rule("transpose", "t", "permute")
def permute(call: Call) -> Sequence[Axes]:
    """Axes change places."""
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
    """An axis of length one appears."""
    axes = list(call.axes("self"))
    axes.insert(call["dim"] % (len(axes) + 1), UNIT)
    return [axes]


@rule("squeeze")
def squeeze(call: Call) -> Sequence[Axes]:
    """Axes of length one vanish."""
    axes = call.axes("self")
    dims = call.get("dim")
    if dims is None:
        dims = range(len(axes))
    gone = {dim % max(len(axes), 1) for dim in ([dims] if isinstance(dims, int) else dims)}
    return [[axis for place, axis in enumerate(axes) if length(axis) != 1 or place not in gone]]


@rule("expand")
def expand(call: Call) -> Sequence[Axes]:
    """Axes of equal slices appear: any permutation of them changes nothing, so they are free."""
    axes = call.axes("self")
    added = len(call.shape) - len(axes)
    given = [1] * added + list(call["self"].shape)
    axes = [UNIT] * added + list(axes)
    return [[fresh(size) if size != had else axis for size, had, axis in zip(call.shape, given, axes, strict=True)]]


@rule("repeat")
def repeat(call: Call) -> Sequence[Axes]:
    """Copies, one after the other: an outer axis of equal slices."""
    axes = call.axes("self")
    axes = [UNIT] * (len(call["repeats"]) - len(axes)) + list(axes)
    return [[(*fresh(times), *axis) for times, axis in zip(call["repeats"], axes, strict=True)]]


@rule("repeat_interleave")
def repeat_interleave(call: Call) -> Sequence[Axes]:
    """Each index several times in a row: an inner axis of equal slices."""
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
    """One index of an axis is taken."""
    return [taken(call, call.axes("self"), call["dim"], call["index"])]


@rule("unbind")
def unbind(call: Call) -> Sequence[Axes]:
    """Every index of an axis is taken."""
    axes = call.axes("self")
    return [taken(call, axes, call["dim"], index) for index in range(len(call.outputs))]


def taken(call: Call, axes: Axes, dim: int, index: int) -> Axes:
    """The axes of a tensor at one index of `dim`."""
    dim %= len(axes)
    index %= max(length(axes[dim]), 1)
    if length(axes[dim]) == 1:
        return axes[:dim] + axes[dim + 1 :]
    return call.couplings.pick(axes, dim, index, call.cause("one index was taken from it"))


@rule("slice")
def slice_(call: Call) -> Sequence[Axes]:
    """A stretch of an axis, or every n-th index of it."""
    axes = list(call.axes("self"))
    dim, step = call["dim"] % len(axes), call["step"]
    size = call["self"].shape[dim]
    begin = call.get("start") or 0
    begin = max(0, begin + size) if begin < 0 else min(begin, size)
    if step != 1:
        return [_every(call, axes, dim, begin, step)]
    return [_stretch(call, axes, dim, begin, begin + call.shape[dim])]


def _stretch(call: Call, axes: Axes, dim: int, begin: int, end: int) -> Axes:
    size = length(axes[dim])
    if (begin, end) == (0, size):
        return list(axes)
    if begin == end:
        return [*axes[:dim], call.rigid(0, ORDER), *axes[dim + 1 :]]
    if end - begin == 1:
        axes = taken(call, axes, dim, begin)
        return [*axes[:dim], UNIT, *axes[dim:]]
    axis = axes[dim]
    if end < size:
        axis, _ = split_axis(axis, end)
    if begin:
        _, axis = split_axis(axis, begin)
    return [*axes[:dim], axis, *axes[dim + 1 :]]


def _every(call: Call, axes: Axes, dim: int, begin: int, step: int) -> Axes:
    size, taken_size = length(axes[dim]), call.shape[dim]
    if begin < step and taken_size * step == size and not is_rigid(axes[dim]):
        rows = reshape_axes([axes[dim]], [taken_size, step], call.cause("reshaped to sizes that do not fit"))
        return taken(call, [*axes[:dim], *rows, *axes[dim + 1 :]], dim + 1, begin)
    return unordered(call, axes, [dim], call.shape)


def unordered(call: Call, axes: Axes, dims: Sequence[int], sizes: Sequence[int], reason: str = ORDER) -> Axes:
    """The axes after an operation that depends on the order along some dimensions and is alike at all others."""
    dims = [dim % len(axes) for dim in dims]
    call.fix([axes[dim] for dim in dims], reason)
    result = [call.rigid(sizes[dim], reason) if dim in dims else axis for dim, axis in enumerate(axes)]
    others = [axis for dim, axis in enumerate(axes) if dim not in dims]
    call.couplings.mix(others, [each[dim] for dim in dims for each in (axes, result)])
    return result


@rule("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk")
def split(call: Call) -> Sequence[Axes]:
    """Stretches of an axis, one after the other."""
    axes = call.axes("self")
    dim = call["dim"] % len(axes)
    ends = [0]
    for tensor in call.outputs:
        ends.append(ends[-1] + tensor.shape[dim])
    return [_stretch(call, axes, dim, begin, end) for begin, end in pairwise(ends)]


@rule("cat", "_cat")
def cat(call: Call) -> Sequence[Axes]:
    """Tensors, one after the other: a sum along one axis, alike along the others."""
    dim = call["dim"] % len(call.shape)
    tensors = [tensor for tensor in call["tensors"] if tensor.ndim > dim and tensor.shape[dim]]
    operands = [call.axes_of(tensor) for tensor in tensors]
    if all(tensor.shape[dim] == 1 for tensor in tensors):
        return [stacked(call, [axes[:dim] + axes[dim + 1 :] for axes in operands], dim)]
    result = list(operands[0])
    for axes in operands[1:]:
        for place, axis in enumerate(axes):
            if place != dim:
                call.unify(result[place], axis)
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
    """Tensors, one below the other: a new axis that keeps its order, alike along the others."""
    operands = [call.axes_of(tensor) for tensor in call["tensors"]]
    return [stacked(call, operands, call["dim"] % len(call.shape))]


def stacked(call: Call, operands: Sequence[Axes], dim: int) -> Axes:
    """The axes of tensors that were put below each other along a new axis.

    Where they differ, it is left open whether they must be permuted alike: that depends on what becomes of the stack.
    """
    below = call.rigid(len(operands), "tensors were stacked")
    result: list[Axis] = []
    for axes in zip(*operands, strict=True):
        alike = len({resolve(axis) for axis in axes}) == 1
        result.append(axes[0] if alike else call.couplings.stack(axes, below, call.cause("stacked")))
    result.insert(dim, below)
    return result


@rule("constant_pad_nd")
def constant_pad_nd(call: Call) -> Sequence[Axes]:
    """Constants before and after an axis: neurons of their own. Negative paddings take stretches away."""
    axes = list(call.axes("self"))
    paddings = call["pad"]
    for place in range(len(paddings) // 2):
        before, after = paddings[2 * place : 2 * place + 2]
        dim = len(axes) - 1 - place
        size = length(axes[dim])
        axes = _stretch(call, axes, dim, max(0, -before), size - max(0, -after))
        padded: list[Axis] = [fresh(before)] if before > 0 else []
        padded.append(axes[dim])
        padded.extend([fresh(after)] if after > 0 else [])
        axes[dim] = concatenated(padded)
        if len(padded) == 3:
            call.couplings.paddings.append((padded[0], padded[2]))
    return [axes]


@rule("as_strided")
def as_strided(call: Call) -> Sequence[Axes]:
    """Any view of the memory; understood where it only reorders dimensions."""
    return [call.tracer.view_axes(call.outputs[0])]


@rule("glu")
def glu(call: Call) -> Sequence[Axes]:
    """The first half of an axis, gated by the second."""
    axes = call.axes("self")
    dim = call["dim"] % len(axes)
    half = call.shape[dim]
    first, second = (_stretch(call, axes, dim, begin, begin + half) for begin in (0, half))
    call.unify(first[dim], second[dim])
    return [first]


@rule("diagonal")
def diagonal(call: Call) -> Sequence[Axes]:
    """The diagonal of two axes: of the main one both are permuted alike."""
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
    """The order changes along some axes."""
    axes = call.axes("self")
    dims = list(call["dims"]) or list(range(len(axes)))
    return [unordered(call, axes, dims, call.shape)]


@rule("tril", "triu")
def triangle(call: Call) -> Sequence[Axes]:
    """Zeros on one side of a diagonal of the last two axes."""
    return [unordered(call, call.axes("self"), [-2, -1], call.shape)]


@rule("native_channel_shuffle", "channel_shuffle")
def channel_shuffle(call: Call) -> Sequence[Axes]:
    """[groups, rest] channels become [rest, groups]."""
    axes = list(call.axes("self"))
    groups = call["groups"]
    sizes = [groups, length(axes[1]) // groups]
    outer, inner = reshape_axes([axes[1]], sizes, call.cause("shuffled in groups that do not fit"))
    axes[1] = (*inner, *outer)
    return [axes]


@rule("pixel_shuffle")
def pixel_shuffle(call: Call) -> Sequence[Axes]:
    """[channels * r * r, height, width] becomes [channels, height * r, width * r]."""
    axes = call.axes("self")
    factor = call["upscale_factor"]
    sizes = [length(axes[-3]) // factor**2, factor, factor]
    channels, down, right = reshape_axes([axes[-3]], sizes, call.cause("shuffled in groups that do not fit"))
    return [[*axes[:-3], channels, (*axes[-2], *down), (*axes[-1], *right)]]
