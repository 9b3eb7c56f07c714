"""Products that sum over an axis: matrix products, convolutions, bilinear forms."""

from collections.abc import Iterable, Sequence

from onebasin.symmetry.algebra import Atom, Axes, Axis, atoms_of, length, reshape_axes, resolve
from onebasin.symmetry.call import Call
from onebasin.symmetry.rules.elementwise import broadcast
from onebasin.symmetry.rules.registry import rule


def contract(
    call: Call, factors: Sequence[str], summed: Sequence[Axis], batch: Sequence[Axis], free: Sequence[Axis]
) -> None:
    """Note what a sum of products over `summed`, at each index of `batch` and `free`, mixes.

    factors: the names of the arguments that are multiplied. Where one is a constant of zeros, like a recurrent state
    before the first step, nothing was learned about the other.
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
    return {atom for axis in axes for atom in atoms_of(resolve(axis))}


def product(call: Call, factors: tuple[str, str]) -> Axes:
    """[batch..., n, k] times [batch..., k, m]."""
    left, right = map(call.axes, factors)
    for one, other in zip(left[:-2], right[:-2], strict=True):
        call.unify(one, other)
    call.unify(left[-1], right[-2])
    contract(call, factors, [left[-1]], left[:-2], [left[-2], right[-1]])
    return [*left[:-1], right[-1]]


@rule("mm", "bmm")
def matmul(call: Call) -> Sequence[Axes]:
    """Matrix products, also in batches."""
    return [product(call, ("self", "mat2"))]


@rule("addmm", "baddbmm", "_addmm_activation")
def addmm(call: Call) -> Sequence[Axes]:
    """A matrix product plus something of its shape."""
    names = ("batch1", "batch2") if call.name.startswith("baddbmm") else ("mat1", "mat2")
    result = product(call, names)
    return [broadcast(call, call.shape, [result, call.axes("self")])]


@rule("addbmm")
def addbmm(call: Call) -> Sequence[Axes]:
    """The sum of a batch of matrix products, plus something."""
    factors = ("batch1", "batch2")
    result = product(call, factors)
    contract(call, factors, result[:1], [], result[1:])
    return [broadcast(call, call.shape, [result[1:], call.axes("self")])]


@rule("_grouped_mm")
def grouped_matmul(call: Call) -> Sequence[Axes]:
    """Rows, sorted by expert, each times the matrix of its expert."""
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
    """Matrix times vector."""
    matrix, vector = call.axes("self"), call.axes("vec")
    call.unify(matrix[1], vector[0])
    contract(call, ("self", "vec"), [matrix[1]], [], [matrix[0]])
    return [[matrix[0]]]


@rule("addmv")
def addmv(call: Call) -> Sequence[Axes]:
    """Matrix times vector, plus something."""
    matrix, vector = call.axes("mat"), call.axes("vec")
    call.unify(matrix[1], vector[0])
    contract(call, ("mat", "vec"), [matrix[1]], [], [matrix[0]])
    return [broadcast(call, call.shape, [[matrix[0]], call.axes("self")])]


@rule("dot", "vdot")
def dot(call: Call) -> Sequence[Axes]:
    """Scalar product."""
    names = ("self", "tensor") if "tensor" in call.arguments else ("self", "other")
    call.unify(call.axes(names[0])[0], call.axes(names[1])[0])
    contract(call, names, call.axes(names[0]), [], [])
    return [[]]


@rule("addr")
def addr(call: Call) -> Sequence[Axes]:
    """Outer product, plus something."""
    outer = [call.axes("vec1")[0], call.axes("vec2")[0]]
    return [broadcast(call, call.shape, [outer, call.axes("self")])]


@rule("_trilinear")
def trilinear(call: Call) -> Sequence[Axes]:
    """Product of three tensors, unsqueezed to one shape, summed over some dimensions."""
    operands = []
    for number in "123":
        axes = list(call.axes(f"i{number}"))
        for dim in sorted(call[f"expand{number}"]):
            axes.insert(dim, ())
        operands.append(axes)
    full = broadcast(call, [2] * len(operands[0]), operands)  # any size but one: nothing is squeezed here
    summed = [full[dim] for dim in call["sumdim"]]
    kept = [axis for dim, axis in enumerate(full) if dim not in call["sumdim"]]
    contract(call, ("i1", "i2", "i3"), summed, [], kept)
    return [kept]


@rule("_cdist_forward", "_euclidean_dist")
def cdist(call: Call) -> Sequence[Axes]:
    """Distances between rows of two tensors."""
    left, right = call.axes("x1"), call.axes("x2")
    call.unify(left[-1], right[-1])
    batch = broadcast(call, call.shape[:-2], [left[:-2], right[:-2]])
    contract(call, (), [left[-1]], batch, [left[-2], right[-2]])
    return [[*batch, left[-2], right[-2]]]


@rule("convolution", "convolution_overrideable", "_convolution")
def convolution(call: Call) -> Sequence[Axes]:
    """Sums over channels within groups and over positions in a kernel."""
    source, weight = call.axes("input"), call.axes("weight")
    groups, kernel = call["groups"], call["weight"].shape[2:]
    cause = call.cause("channels in groups that do not fit")

    def grouped(axis: Axis) -> Axes:
        return [(), axis] if groups == 1 else reshape_axes([axis], [groups, length(axis) // groups], cause)

    batch, channels = source[: -1 - len(kernel)], source[-1 - len(kernel)]
    group, entering = grouped(channels)
    group_again, rows = grouped(weight[0])
    call.unify(group, group_again)
    if call["transposed"]:
        call.unify(entering, rows)
        leaving = weight[1]
    else:
        call.unify(entering, weight[1])
        leaving = rows
    result: Axis = (*group, *leaving)
    if call.get("bias") is not None:
        call.unify(call.axes("bias")[0], result)
    positions, taps = list(source[-len(kernel) :]), weight[2:]
    call.fix(taps, "position in the kernel")
    after = [
        axis if pointlike else call.rigid(size, "position after a convolution")
        for axis, size, pointlike in zip(positions, call.shape[-len(kernel) :], _pointlike(call), strict=True)
    ]
    for axis, pointlike in zip(positions, _pointlike(call), strict=True):
        if not pointlike:
            call.fix([axis], "position before a convolution")
    still = [axis for axis, pointlike in zip(positions, _pointlike(call), strict=True) if pointlike]
    moved = [axis for axis, pointlike in zip(positions, _pointlike(call), strict=True) if not pointlike]
    contract(call, ("input", "weight"), [entering, *moved], [group], [*batch, *still, leaving, *after])
    call.couplings.mix([*batch, *still, group, leaving], [*moved, *(a for a in after if a not in still)])
    return [[*batch, result, *after]]


def _pointlike(call: Call) -> list[bool]:
    """For each spatial dimension, whether the convolution treats every position by itself."""

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
