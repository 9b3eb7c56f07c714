"""Rules of operations that treat all elements alike, and of operations that create tensors."""

from collections.abc import Sequence

from torch import Tensor

from onebasin.symmetry.algebra import UNIT, Axes, Axis
from onebasin.symmetry.call import Call
from onebasin.symmetry.rules.registry import CREATORS, rule


@rule(
    "pointwise",  # every operation that has PyTorch's tag of this name
    "copy",
    "fill",
    "zero",
    "hardswish",
    "floor_divide",
    "complex",
    "polar",
    "_prelu_kernel",
    "rrelu_with_noise",
    "isin",
    "bucketize",
    "log_sigmoid_forward",
    "_to_copy",
    "detach",
    "alias",
    "lift_fresh",
    "lift_fresh_copy",
    "view_as_real_copy",
    "_conj",
    "_neg_view",
    "native_dropout",
    "bernoulli",
    "uniform",
    "normal",
    "exponential",
)
def pointwise(call: Call) -> Sequence[Axes]:
    """Axes that broadcasting aligns get the same permutation."""
    if call.name in ("isin", "bucketize", "searchsorted"):
        for name, tensor in call.arguments.items():
            if name not in ("self", "elements") and isinstance(tensor, Tensor):
                call.fix(call.axes_of(tensor), "values are looked up in it")
        tensors = [call.arguments["elements" if "elements" in call.arguments else "self"]]
    else:
        tensors = call.inputs
    axes = broadcast(call, call.shape, [call.axes_of(tensor) for tensor in tensors])
    return [axes if tensor.numel() else [call.rigid(n, "is empty") for n in tensor.shape] for tensor in call.outputs]


def broadcast(call: Call, shape: Sequence[int], operands: Sequence[Axes]) -> Axes:
    """The axes of operands broadcast to `shape`, aligned at the last dimension."""
    result: list[Axis] = [UNIT] * len(shape)
    for axes in operands:
        for from_end in range(1, min(len(axes), len(shape)) + 1):
            axis = axes[-from_end]
            if axis == UNIT or shape[-from_end] == 1:
                continue
            if result[-from_end] == UNIT:
                result[-from_end] = axis
            else:
                call.unify(result[-from_end], axis)
    return result


def broadcast_shape(shapes: Sequence[Sequence[int]]) -> list[int]:
    """The shape to which tensors of these shapes broadcast."""
    rank = max((len(shape) for shape in shapes), default=0)
    padded = [[1] * (rank - len(shape)) + list(shape) for shape in shapes]
    return [max(sizes) for sizes in zip(*padded, strict=True)]


@rule("view_as_real")
def view_as_real(call: Call) -> Sequence[Axes]:
    """Appends an axis of length two: real and imaginary part."""
    return [[*call.axes("self"), call.rigid(2, "real and imaginary part")]]


@rule("view_as_complex")
def view_as_complex(call: Call) -> Sequence[Axes]:
    """Removes the last axis, of length two."""
    axes = call.axes("self")
    call.fix(axes[-1:], "real and imaginary part")
    return [axes[:-1]]


CREATORS.update(
    ("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "randint_like"),
)
CREATORS.update(("new_empty", "new_empty_strided", "new_zeros", "new_ones", "new_full"))
