"""Rules of operations that read or write values by index."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onebasin.symmetry.algebra import Axes, Axis, length
from onebasin.symmetry.call import Call
from onebasin.symmetry.rules.elementwise import broadcast, broadcast_shape
from onebasin.symmetry.rules.registry import rule
from onebasin.symmetry.rules.shapes import fix_order

MASKS = (torch.bool, torch.uint8)
INDEXED = "values are looked up by index"


@rule("embedding")
def embedding(call: Call) -> Sequence[Axes]:
    """Rows of a table."""
    rows, columns = call.axes("weight")
    call.fix([rows], INDEXED)
    return [[*call.axes("indices"), columns]]


@rule("embedding_renorm")
def embedding_renorm(call: Call) -> Sequence[Axes]:
    """Limits the norm of rows of a table."""
    rows, columns = call.axes("self")
    call.fix([rows], INDEXED)
    call.couplings.mix([rows], [columns])
    return [[rows, columns]]


@rule("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(call: Call) -> Sequence[Axes]:
    """Sums or means of rows of a table."""
    rows, columns = call.axes("weight")
    call.fix([rows], INDEXED)
    for name in ("indices", "offsets", "per_sample_weights"):
        if call.get(name) is not None:
            call.fix(call.axes(name), INDEXED)
    bags: Axes = [call.rigid(call.shape[0], "bags"), columns]
    return [bags, *([call.rigid(n, "bags") for n in tensor.shape] for tensor in call.outputs[1:])]


@rule("index_select")
def index_select(call: Call) -> Sequence[Axes]:
    """Selected indices of one axis."""
    call.fix(call.axes("index"), INDEXED)
    axes = call.axes("self")
    return [fix_order(call, axes, [call["dim"]], call.shape, INDEXED)] if axes else [[]]


@rule("index", "_unsafe_index")
def index(call: Call) -> Sequence[Axes]:
    """Selected indices of several axes together."""
    axes = call.axes("self")
    dims: list[int] = []
    chosen: list[Axes] = []
    shapes: list[tuple[int, ...]] = []
    dim = 0
    has_mask = False
    for each in call["indices"]:
        if each is None:
            dim += 1
        elif each.dtype in MASKS:
            dims.extend(range(dim, dim + each.ndim))
            dim += each.ndim
            call.fix(call.axes_of(each), INDEXED)
            has_mask = True
        else:
            dims.append(dim)
            dim += 1
            chosen.append(call.axes_of(each))
            shapes.append(tuple(each.shape))
    call.fix([axes[dim] for dim in dims], INDEXED)
    rank = max((len(each) for each in chosen), default=1)
    adjacent = dims == list(range(dims[0], dims[-1] + 1)) if dims else True
    first = dims[0] if dims and adjacent else 0
    rest = [axis for axis_index, axis in enumerate(axes) if axis_index not in dims]
    if has_mask:
        for index_axes in chosen:
            call.fix(index_axes, INDEXED)
        new: Axes = [call.rigid(size, INDEXED) for size in call.shape[first : first + rank]]
    else:
        new = broadcast(call, broadcast_shape(shapes), chosen)
    call.couplings.mix(rest, [*(axes[dim] for dim in dims), *new])
    return [[*rest[:first], *new, *rest[first:]]]


@rule("index_put", "_unsafe_index_put", "_index_put_impl")
def index_put(call: Call) -> Sequence[Axes]:
    """Writes values at selected indices. Axes that are not indexed get the permutation of the values' axes."""
    axes = call.axes("self")
    indices = [each for each in call["indices"] if each is not None]
    if len(indices) == 1 and indices[0].dtype in MASKS and call["values"].numel() == 1:
        return [_write_masked(call, axes, indices[0], call["indices"])]
    dims: list[int] = []
    dim = 0
    for each in call["indices"]:
        width = each.ndim if each is not None and each.dtype in MASKS else 1
        if each is not None:
            dims.extend(range(dim, dim + width))
            call.fix(call.axes_of(each), INDEXED)
        dim += width
    call.fix([axes[dim] for dim in dims], INDEXED)
    rest = [axis for axis_index, axis in enumerate(axes) if axis_index not in dims]
    adjacent = dims == list(range(dims[0], dims[-1] + 1)) if dims else True
    first_dim = dims[0] if dims and adjacent else 0
    values = call.axes("values")
    call.fix(values[: len(values) - len(rest[first_dim:])], INDEXED)
    broadcast(call, [length(axis) for axis in rest[first_dim:]], [rest[first_dim:], values])
    call.fix(rest[:first_dim], INDEXED)
    call.couplings.mix(rest, [axes[dim] for dim in dims])
    return [axes]


def _write_masked(call: Call, axes: Axes, mask: Tensor, indices: Sequence[Any]) -> Axes:
    """Write one value at every element of a mask."""
    before = next(axis_index for axis_index, each in enumerate(indices) if each is not None)
    for axis, other in zip(axes[before:], call.axes_of(mask), strict=False):
        call.unify(axis, other)
    return axes


@rule("gather", "scatter", "scatter_add", "scatter_reduce")
def gather(call: Call) -> Sequence[Axes]:
    """Reads or writes values by index along one dimension, at each index of the other dimensions."""
    axes = call.axes("self")
    if not axes:
        return [axes]
    dim = call["dim"] % len(axes)
    others = [call.axes("index")]
    if isinstance(call.get("src"), Tensor):
        others.append(call.axes("src"))
    call.fix([axes[dim]], INDEXED)
    result: list[Axis] = list(axes)
    for axis_index in range(len(axes)):
        for operand in others:
            if axis_index == dim:
                call.fix([operand[axis_index]], INDEXED)
            elif length(operand[axis_index]) == length(axes[axis_index]):
                call.unify(axes[axis_index], operand[axis_index])
            else:
                call.fix([axes[axis_index], operand[axis_index]], INDEXED)
                if call.name == "gather":
                    result[axis_index] = call.rigid(call.shape[axis_index], INDEXED)
    if call.name == "gather":
        result[dim] = call.rigid(call.shape[dim], INDEXED)
    rest = [axis for axis_index, axis in enumerate(axes) if axis_index != dim]
    call.couplings.mix(rest, [axes[dim], result[dim]])
    return [result]


@rule("index_add", "index_copy", "index_fill", "index_reduce")
def index_add(call: Call) -> Sequence[Axes]:
    """Writes slices at selected indices of one axis."""
    axes = call.axes("self")
    if not axes:
        return [axes]
    dim = call["dim"] % len(axes)
    call.fix([axes[dim], *call.axes("index")], INDEXED)
    source = call.get("source")
    if isinstance(source, Tensor) and source.ndim == len(axes):
        for axis_index, (axis, other) in enumerate(zip(axes, call.axes("source"), strict=True)):
            if axis_index == dim:
                call.fix([other], INDEXED)
            else:
                call.unify(axis, other)
    call.couplings.mix([axis for axis_index, axis in enumerate(axes) if axis_index != dim], [axes[dim]])
    return [axes]


@rule("_pack_padded_sequence")
def pack_padded_sequence(call: Call) -> Sequence[Axes]:
    """Packs sequences of several lengths into one axis, and keeps the feature axes."""
    axes = call.axes("input")
    call.fix([*axes[:2], *call.axes("lengths")], INDEXED)
    packed = [call.rigid(call.shape[0], INDEXED), *axes[2:]]
    call.couplings.mix(axes[2:], [*axes[:2], packed[0]])
    return [packed, *([call.rigid(n, INDEXED) for n in tensor.shape] for tensor in call.outputs[1:])]
