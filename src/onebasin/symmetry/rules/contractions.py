"""Rules of operations that sum products along an axis: matrix products, convolutions, bilinear forms."""

from collections.abc import Iterable, Sequence

from onebasin.symmetry.algebra import Atom, Axes, Axis, atoms_of, length, reshape_axes, resolve
from onebasin.symmetry.call import Call
from onebasin.symmetry.rules.elementwise import broadcast
from onebasin.symmetry.rules.registry import rule


def contract(
    call: Call, factors: Sequence[str], summed: Sequence[Axis], batch: Sequence[Axis], free: Sequence[Axis]
) -> None:
    """Record which axes a sum of products over `summed` mixes, at each index of `batch` and `free`.

    factors: names of the arguments that are multiplied. If one of them is a constant of zeros, such as an initial
    recurrent state, the operation gives no information about the other.
    """
    if any(call.is_zero(name) for name in factors):
        call.couplings.mark_zeroed(summed)
    else:
        call.couplings.mark_used(summed)
    within = _atoms([*summed, *batch])
    apart: list[Axis] = [(atom,) for atom in _atoms(free) - within]
    call.couplings.mix([*summed, *batch], apart)
    call.couplings.mix(apart, [(atom,) for atom in _atoms(summed) - _atoms(batch)])


def _atoms(axes: Iterable[Axis]) -> set[Atom]:
    """The atoms of several axes."""
    return {atom for axis in axes for atom in atoms_of(resolve(axis))}


def product(call: Call, factors: tuple[str, str]) -> Axes:
    """The product of [batch..., n, k] and [batch..., k, m]."""
    left, right = map(call.axes, factors)
    for one, other in zip(left[:-2], right[:-2], strict=True):
        call.unify(one, other)
    call.unify(left[-1], right[-2])
    contract(call, factors, [left[-1]], left[:-2], [left[-2], right[-1]])
    return [*left[:-1], right[-1]]


@rule("mm", "bmm")
def matmul(call: Call) -> Sequence[Axes]:
    """Matrix products, with or without a batch."""
    return [product(call, ("self", "mat2"))]


@rule("addmm", "baddbmm", "_addmm_activation")
def addmm(call: Call) -> Sequence[Axes]:
    """A matrix product plus a tensor that broadcasts to its shape."""
    names = ("batch1", "batch2") if call.name.startswith("baddbmm") else ("mat1", "mat2")
    result = product(call, names)
    return [broadcast(call, call.shape, [result, call.axes("self")])]


@rule("addbmm")
def addbmm(call: Call) -> Sequence[Axes]:
    """The sum of a batch of matrix products, plus a tensor."""
    factors = ("batch1", "batch2")
    result = product(call, factors)
    contract(call, factors, result[:1], [], result[1:])
    return [broadcast(call, call.shape, [result[1:], call.axes("self")])]


@rule("_grouped_mm")
def grouped_matmul(call: Call) -> Sequence[Axes]:
    """Rows sorted by expert, each multiplied by the matrix of its expert."""
    left, right = call.axes("self"), call.axes("mat2")
    if call.get("bias") is not None or (len(left), len(right)) != (2, 3):
        raise ValueError("only rows times a stack of matrices is understood")
    call.fix([left[0], right[0]], "rows belong to experts by their order")
    call.unify(left[1], right[1])
    contract(call, ("self", "mat2"), [left[1]], [], [left[0], right[0], right[2]])
    call.couplings.mix([right[2]], [left[0], right[0]])
    return [[left[0], right[2]]]


@rule("mv")
def mv(call: Call) -> Sequence[Axes]:
    """Matrix-vector product."""
    matrix, vector = call.axes("self"), call.axes("vec")
    call.unify(matrix[1], vector[0])
    contract(call, ("self", "vec"), [matrix[1]], [], [matrix[0]])
    return [[matrix[0]]]


@rule("addmv")
def addmv(call: Call) -> Sequence[Axes]:
    """Matrix-vector product, plus a tensor."""
    matrix, vector = call.axes("mat"), call.axes("vec")
    call.unify(matrix[1], vector[0])
    contract(call, ("mat", "vec"), [matrix[1]], [], [matrix[0]])
    return [broadcast(call, call.shape, [[matrix[0]], call.axes("self")])]


@rule("dot", "vdot")
def dot(call: Call) -> Sequence[Axes]:
    """Inner product of two vectors."""
    names = ("self", "tensor") if "tensor" in call.arguments else ("self", "other")
    call.unify(call.axes(names[0])[0], call.axes(names[1])[0])
    contract(call, names, call.axes(names[0]), [], [])
    return [[]]


@rule("addr")
def addr(call: Call) -> Sequence[Axes]:
    """Outer product, plus a tensor."""
    outer = [call.axes("vec1")[0], call.axes("vec2")[0]]
    return [broadcast(call, call.shape, [outer, call.axes("self")])]


@rule("_trilinear")
def trilinear(call: Call) -> Sequence[Axes]:
    """Product of three tensors, unsqueezed to a common shape, summed over some dimensions."""
    operands = []
    for number in "123":
        axes = list(call.axes(f"i{number}"))
        for dim in sorted(call[f"expand{number}"]):
            axes.insert(dim, ())
        operands.append(axes)
    # `broadcast` skips dimensions of size one. Here it must skip none, so every size is given as 2.
    full = broadcast(call, [2] * len(operands[0]), operands)
    summed = [full[dim] for dim in call["sumdim"]]
    kept = [axis for dim, axis in enumerate(full) if dim not in call["sumdim"]]
    contract(call, ("i1", "i2", "i3"), summed, [], kept)
    return [kept]


@rule("_cdist_forward", "_euclidean_dist")
def cdist(call: Call) -> Sequence[Axes]:
    """Distances between the rows of two tensors."""
    left, right = call.axes("x1"), call.axes("x2")
    call.unify(left[-1], right[-1])
    batch = broadcast(call, call.shape[:-2], [left[:-2], right[:-2]])
    contract(call, (), [left[-1]], batch, [left[-2], right[-2]])
    return [[*batch, left[-2], right[-2]]]


@rule("convolution", "convolution_overrideable", "_convolution")
def convolution(call: Call) -> Sequence[Axes]:
    """Sums over the channels of a group and the positions of a kernel."""
    source, weight = call.axes("input"), call.axes("weight")
    groups, kernel = call["groups"], call["weight"].shape[2:]
    cause = call.cause("channels in groups that do not fit")

    def grouped(axis: Axis) -> Axes:
        return [(), axis] if groups == 1 else reshape_axes([axis], [groups, length(axis) // groups], cause)

    batch, channels = source[: -1 - len(kernel)], source[-1 - len(kernel)]
    group, input_channels = grouped(channels)
    group_again, rows = grouped(weight[0])
    call.unify(group, group_again)
    if call["transposed"]:
        call.unify(input_channels, rows)
        output_channels = weight[1]
    else:
        call.unify(input_channels, weight[1])
        output_channels = rows
    result: Axis = (*group, *output_channels)
    if call.get("bias") is not None:
        call.unify(call.axes("bias")[0], result)
    positions, taps = list(source[-len(kernel) :]), weight[2:]
    call.fix(taps, "position in the kernel")
    pointwise = _pointwise_dims(call)
    after = [
        axis if unmixed else call.rigid(size, "position after a convolution")
        for axis, size, unmixed in zip(positions, call.shape[-len(kernel) :], pointwise, strict=True)
    ]
    for axis, unmixed in zip(positions, pointwise, strict=True):
        if not unmixed:
            call.fix([axis], "position before a convolution")
    kept = [axis for axis, unmixed in zip(positions, pointwise, strict=True) if unmixed]
    mixed = [axis for axis, unmixed in zip(positions, pointwise, strict=True) if not unmixed]
    contract(call, ("input", "weight"), [input_channels, *mixed], [group], [*batch, *kept, output_channels, *after])
    new = [axis for axis in after if axis not in kept]
    call.couplings.mix([*batch, *kept, group, output_channels], [*mixed, *new])
    return [[*batch, result, *after]]


def _pointwise_dims(call: Call) -> list[bool]:
    """For each spatial dimension, whether the convolution treats each position independently."""

    def each(name: str, count: int) -> list[int]:
        values = list(call[name])
        return values * count if len(values) == 1 else values

    kernel = call["weight"].shape[2:]
    count = len(kernel)
    settings = zip(
        kernel,
        each("stride", count),
        each("padding", count),
        each("output_padding", count),
        strict=True,
    )
    return [(size, stride, padding, extra) == (1, 1, 0, 0) for size, stride, padding, extra in settings]
