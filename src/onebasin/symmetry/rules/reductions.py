"""Operations that make axes vanish, and those that go along an axis in its order."""

from collections.abc import Sequence

from onebasin.symmetry.algebra import UNIT, Axes
from onebasin.symmetry.call import Call
from onebasin.symmetry.rules.elementwise import broadcast, broadcast_shape
from onebasin.symmetry.rules.registry import rule
from onebasin.symmetry.rules.shapes import unordered


def reduced(call: Call, name: str = "self") -> tuple[Axes, list[int]]:
    """The axes of an argument that is reduced, and over which dimensions."""
    axes = call.axes(name)
    dims = call.get("dim")
    if dims is None or dims == []:
        return axes, list(range(len(axes)))
    return axes, [dim % max(len(axes), 1) for dim in ([dims] if isinstance(dims, int) else dims)]


def without(call: Call, axes: Axes, dims: Sequence[int]) -> Axes:
    """The axes that are left after a reduction."""
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
    """Symmetric in the indices of the axes that vanish."""
    axes, dims = reduced(call)
    return [without(call, axes, dims) for _ in call.outputs]


@rule("max.dim", "min.dim", "median", "nanmedian", "argmax", "argmin", "mode", "kthvalue")
def extremum(call: Call) -> Sequence[Axes]:
    """Values do not depend on the order, but their places do: an axis is rigid once these are used."""
    axes, dims = reduced(call)
    left = without(call, axes, dims)
    if call.name in ("argmax", "argmin") or len(call.outputs) == 2:
        call.when_used = [(axes[dim], call.cause("places along it are used")) for dim in dims]
    return [left for _ in call.outputs]


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax")
def softmax(call: Call) -> Sequence[Axes]:
    """Normalised along one axis."""
    axes = call.axes("self")
    if axes:
        dim = call["dim"] % len(axes)
        call.couplings.mix([axis for place, axis in enumerate(axes) if place != dim], [axes[dim]])
    return [axes]


@rule("sort", "topk")
def sort(call: Call) -> Sequence[Axes]:
    """Values by size, whatever order they had; places along the axis are another matter."""
    axes = list(call.axes("self"))
    if not axes:
        return [axes for _ in call.outputs]
    dim = call["dim"] % len(axes)
    without(call, axes, [dim])
    call.when_used = [(axes[dim], call.cause("places along it are used"))]
    axes[dim] = call.rigid(call.shape[dim], "sorted")
    return [axes for _ in call.outputs]


@rule("nll_loss_forward", "nll_loss2d_forward")
def nll_loss(call: Call) -> Sequence[Axes]:
    """The likelihood of given classes."""
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
    """Each element by itself, then perhaps the mean or sum of all."""
    shape = broadcast_shape([tensor.shape for tensor in call.inputs])
    axes = broadcast(call, shape, [call.axes_of(tensor) for tensor in call.inputs])
    if call.shape == shape:
        return [axes]
    call.couplings.mark_used(axes)
    return [[]]


@rule("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "argsort", "unfold_copy")
def in_order(call: Call) -> Sequence[Axes]:
    """The order along one axis matters."""
    axes = call.axes("self")
    dim = call.get("dim")
    result = unordered(call, axes, [-1 if dim is None else dim], call.shape) if axes else []
    return [result for _ in call.outputs]


@rule("renorm")
def renorm(call: Call) -> Sequence[Axes]:
    """Each slice along one dimension is normalised."""
    axes = call.axes("self")
    dim = call["dim"] % len(axes)
    call.couplings.mix([axes[dim]], [axis for place, axis in enumerate(axes) if place != dim])
    return [axes]


@rule("_fft_r2c", "_fft_c2r", "_fft_c2c")
def fourier(call: Call) -> Sequence[Axes]:
    """Frequencies along some axes."""
    return [unordered(call, call.axes("self"), call["dim"], call.shape)]
