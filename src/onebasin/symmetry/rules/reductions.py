"""Rules of operations that reduce axes, and of operations that follow the order of an axis."""

from collections.abc import Sequence

from onebasin.symmetry.algebra import UNIT, Axes
from onebasin.symmetry.call import Call
from onebasin.symmetry.rules.elementwise import broadcast, broadcast_shape
from onebasin.symmetry.rules.registry import rule
from onebasin.symmetry.rules.shapes import fix_order


def reduced_dims(call: Call, name: str = "self") -> tuple[Axes, list[int]]:
    """The axes of an argument, and the dimensions over which it is reduced."""
    axes = call.axes(name)
    dims = call.get("dim")
    if dims is None or dims == []:
        return axes, list(range(len(axes)))
    return axes, [dim % max(len(axes), 1) for dim in ([dims] if isinstance(dims, int) else dims)]


def reduce_axes(call: Call, axes: Axes, dims: Sequence[int]) -> Axes:
    """The axes that remain after a reduction."""
    keep = bool(call.get("keepdim"))
    left = [UNIT if dim in dims else axis for dim, axis in enumerate(axes) if keep or dim not in dims]
    others = [axis for dim, axis in enumerate(axes) if dim not in dims]
    call.couplings.mix(others, [axes[dim] for dim in dims])
    call.couplings.mark_used(axes[dim] for dim in dims)
    return left


@rule(
    "sum",
    "nansum",
    "mean",
    "nanmean",
    "prod",
    "amax",
    "amin",
    "aminmax",
    "_aminmax",
    "any",
    "all",
    "_is_all_true",
    "_is_any_true",
    "var",
    "std",
    "var_mean",
    "std_mean",
    "norm",
    "linalg_vector_norm",
    "logsumexp",
    "count_nonzero",
    "max.all",
    "min.all",
)
def reduction(call: Call) -> Sequence[Axes]:
    """Symmetric in the indices of the reduced axes."""
    axes, dims = reduced_dims(call)
    return [reduce_axes(call, axes, dims) for _ in call.outputs]


@rule("max.dim", "min.dim", "median", "nanmedian", "argmax", "argmin", "mode", "kthvalue")
def extremum(call: Call) -> Sequence[Axes]:
    """The values do not depend on the order of the reduced axis, but the indices do: their use makes the axis rigid."""
    axes, dims = reduced_dims(call)
    left = reduce_axes(call, axes, dims)
    if call.name in ("argmax", "argmin") or len(call.outputs) == 2:
        call.rigid_when_used = [(axes[dim], call.cause("places along it are used")) for dim in dims]
    return [left for _ in call.outputs]


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax")
def softmax(call: Call) -> Sequence[Axes]:
    """Normalises along one axis."""
    axes = call.axes("self")
    if axes:
        dim = call["dim"] % len(axes)
        call.couplings.mix([axis for axis_index, axis in enumerate(axes) if axis_index != dim], [axes[dim]])
    return [axes]


@rule("sort", "topk")
def sort(call: Call) -> Sequence[Axes]:
    """The sorted values do not depend on the order of the axis, but the indices do: their use makes the axis rigid."""
    axes = list(call.axes("self"))
    if not axes:
        return [axes for _ in call.outputs]
    dim = call["dim"] % len(axes)
    reduce_axes(call, axes, [dim])
    call.rigid_when_used = [(axes[dim], call.cause("places along it are used"))]
    axes[dim] = call.rigid(call.shape[dim], "sorted")
    return [axes for _ in call.outputs]


@rule("nll_loss_forward", "nll_loss2d_forward")
def nll_loss(call: Call) -> Sequence[Axes]:
    """The negative log-likelihood of given classes."""
    axes = call.axes("self")
    call.fix(axes[-1:] if len(axes) < 3 else axes[1:2], "classes")
    target = call.axes("target")
    kept = axes[:-1] if len(axes) < 3 else [axes[0], *axes[2:]]
    for axis, other in zip(kept, target, strict=True):
        call.unify(axis, other)
    if call.get("weight") is not None:
        call.fix(call.axes("weight"), "classes")
    call.couplings.mark_used(kept)
    call.couplings.mix(axes, axes)
    return [kept if tensor.ndim else [] for tensor in call.outputs]


@rule(
    "mse_loss",
    "smooth_l1_loss",
    "huber_loss",
    "soft_margin_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
)
def elementwise_loss(call: Call) -> Sequence[Axes]:
    """A loss of each element, with an optional mean or sum over all elements."""
    shape = broadcast_shape([tensor.shape for tensor in call.inputs])
    axes = broadcast(call, shape, [call.axes_of(tensor) for tensor in call.inputs])
    if call.shape == shape:
        return [axes]
    call.couplings.mark_used(axes)
    return [[]]


@rule("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "argsort", "unfold_copy")
def in_order(call: Call) -> Sequence[Axes]:
    """Depends on the order of one axis."""
    axes = call.axes("self")
    dim = call.get("dim")
    result = fix_order(call, axes, [-1 if dim is None else dim], call.shape) if axes else []
    return [result for _ in call.outputs]


@rule("renorm")
def renorm(call: Call) -> Sequence[Axes]:
    """Limits the norm of each slice along one dimension."""
    axes = call.axes("self")
    dim = call["dim"] % len(axes)
    call.couplings.mix([axes[dim]], [axis for axis_index, axis in enumerate(axes) if axis_index != dim])
    return [axes]


@rule("_fft_r2c", "_fft_c2r", "_fft_c2c")
def fourier(call: Call) -> Sequence[Axes]:
    """Fourier transforms along some axes."""
    return [fix_order(call, call.axes("self"), call["dim"], call.shape)]
