"""Operations that look values up by index, or write them by index."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onebasin.symmetry.algebra import Axes, Axis, length
from onebasin.symmetry.call import Call
from onebasin.symmetry.rules.elementwise import broadcast, broadcast_shape
from onebasin.symmetry.rules.registry import rule
from onebasin.symmetry.rules.shapes import unordered

MASKS = (torch.bool, torch.uint8)
LOOKED_UP = "values are looked up by index"


@rule("embedding")
def embedding(call: Call) -> Sequence[Axes]:
    """Rows of a table."""
    rows, columns = call.axes("weight")
    call.fix([rows], LOOKED_UP)
    return [[*call.axes("indices"), columns]]


@rule("embedding_renorm")
def embedding_renorm(call: Call) -> Sequence[Axes]:
    """Rows of a table that are too long are shortened."""
    rows, columns = call.axes("self")
    call.fix([rows], LOOKED_UP)
    call.couplings.mix([rows], [columns])
    return [[rows, columns]]


@rule("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(call: Call) -> Sequence[Axes]:
    """Sums or means of rows of a table."""
    rows, columns = call.axes("weight")
    call.fix([rows], LOOKED_UP)
    for name in ("indices", "offsets", "per_sample_weights"):
        if call.get(name) is not None:
            call.fix(call.axes(name), LOOKED_UP)
    bags: Axes = [call.rigid(call.shape[0], "bags"), columns]
    return [bags, *([call.rigid(n, "bags") for n in tensor.shape] for tensor in call.outputs[1:])]


@rule("index_select")
def index_select(call: Call) -> Sequence[Axes]:
    """Indices of one axis, chosen."""
    call.fix(call.axes("index"), LOOKED_UP)
    axes = call.axes("self")
    return [unordered(call, axes, [call["dim"]], call.shape, LOOKED_UP)] if axes else [[]]


@rule("index", "_unsafe_index")
def index(call: Call) -> Sequence[Axes]:
    """Indices of several axes, chosen together."""
    axes = call.axes("self")
    dims: list[int] = []
    chosen: list[Axes] = []
    shapes: list[tuple[int, ...]] = []
    dim = 0
    unknown = False
    for each in call["indices"]:
        if each is None:
            dim += 1
        elif each.dtype in MASKS:
            dims.extend(range(dim, dim + each.ndim))
            dim += each.ndim
            call.fix(call.axes_of(each), LOOKED_UP)
            unknown = True
        else:
            dims.append(dim)
            dim += 1
            chosen.append(call.axes_of(each))
            shapes.append(tuple(each.shape))
    call.fix([axes[dim] for dim in dims], LOOKED_UP)
    rank = max((len(each) for each in chosen), default=1)
    together = dims == list(range(dims[0], dims[-1] + 1)) if dims else True
    first = dims[0] if dims and together else 0
    rest = [axis for place, axis in enumerate(axes) if place not in dims]
    if unknown:
        for each_axes in chosen:
            call.fix(each_axes, LOOKED_UP)
        new: Axes = [call.rigid(size, LOOKED_UP) for size in call.shape[first : first + rank]]
    else:
        new = broadcast(call, broadcast_shape(shapes), chosen)
    call.couplings.mix(rest, [*(axes[dim] for dim in dims), *new])
    return [[*rest[:first], *new, *rest[first:]]]


@rule("index_put", "_unsafe_index_put", "_index_put_impl")
def index_put(call: Call) -> Sequence[Axes]:
    """Values written at chosen indices: alike along the axes that are not indexed."""
    axes = call.axes("self")
    indices = [each for each in call["indices"] if each is not None]
    if len(indices) == 1 and indices[0].dtype in MASKS and call["values"].numel() == 1:
        return [_masked(call, axes, indices[0], call["indices"])]
    dims: list[int] = []
    dim = 0
    for each in call["indices"]:
        width = each.ndim if each is not None and each.dtype in MASKS else 1
        if each is not None:
            dims.extend(range(dim, dim + width))
            call.fix(call.axes_of(each), LOOKED_UP)
        dim += width
    call.fix([axes[dim] for dim in dims], LOOKED_UP)
    rest = [axis for place, axis in enumerate(axes) if place not in dims]
    together = dims == list(range(dims[0], dims[-1] + 1)) if dims else True
    leading = dims[0] if dims and together else 0
    values = call.axes("values")
    call.fix(values[: len(values) - len(rest[leading:])], LOOKED_UP)
    broadcast(call, [length(axis) for axis in rest[leading:]], [rest[leading:], values])
    call.fix(rest[:leading], LOOKED_UP)
    call.couplings.mix(rest, [axes[dim] for dim in dims])
    return [axes]


def _masked(call: Call, axes: Axes, mask: Tensor, indices: Sequence[Any]) -> Axes:
    """One value written wherever a mask says so."""
    before = next(place for place, each in enumerate(indices) if each is not None)
    for axis, other in zip(axes[before:], call.axes_of(mask), strict=False):
        call.unify(axis, other)
    return axes


@rule("gather", "scatter", "scatter_add", "scatter_reduce")
def gather(call: Call) -> Sequence[Axes]:
    """Along one dimension values are looked up or written, at every place of the others."""
    axes = call.axes("self")
    if not axes:
        return [axes]
    dim = call["dim"] % len(axes)
    others = [call.axes("index")]
    if isinstance(call.get("src"), Tensor):
        others.append(call.axes("src"))
    call.fix([axes[dim]], LOOKED_UP)
    result: list[Axis] = list(axes)
    for place in range(len(axes)):
        for operand in others:
            if place == dim:
                call.fix([operand[place]], LOOKED_UP)
            elif length(operand[place]) == length(axes[place]):
                call.unify(axes[place], operand[place])
            else:
                call.fix([axes[place], operand[place]], LOOKED_UP)
                if call.name == "gather":
                    result[place] = call.rigid(call.shape[place], LOOKED_UP)
    if call.name == "gather":
        result[dim] = call.rigid(call.shape[dim], LOOKED_UP)
    rest = [axis for place, axis in enumerate(axes) if place != dim]
    call.couplings.mix(rest, [axes[dim], result[dim]])
    return [result]


@rule("index_add", "index_copy", "index_fill", "index_reduce")
def index_add(call: Call) -> Sequence[Axes]:
    """Slices written at chosen indices of one axis."""
    axes = call.axes("self")
    if not axes:
        return [axes]
    dim = call["dim"] % len(axes)
    call.fix([axes[dim], *call.axes("index")], LOOKED_UP)
    source = call.get("source")
    if isinstance(source, Tensor) and source.ndim == len(axes):
        for place, (axis, other) in enumerate(zip(axes, call.axes("source"), strict=True)):
            if place == dim:
                call.fix([other], LOOKED_UP)
            else:
                call.unify(axis, other)
    call.couplings.mix([axis for place, axis in enumerate(axes) if place != dim], [axes[dim]])
    return [axes]


@rule("_pack_padded_sequence")
def pack_padded_sequence(call: Call) -> Sequence[Axes]:
    """Sequences of several lengths, laid into one axis; features stay."""
    axes = call.axes("input")
    call.fix([*axes[:2], *call.axes("lengths")], LOOKED_UP)
    packed = [call.rigid(call.shape[0], LOOKED_UP), *axes[2:]]
    call.couplings.mix(axes[2:], [*axes[:2], packed[0]])
    return [packed, *([call.rigid(n, LOOKED_UP) for n in tensor.shape] for tensor in call.outputs[1:])]
