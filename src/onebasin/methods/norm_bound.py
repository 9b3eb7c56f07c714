"""A bound on the norm of a client's update, and the choices of a method that do not go with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from onebasin.core.settings import Positive, Settings


class NormBound(Settings):
    """The largest norm of a client's update (table `method.norm_bound`).

    limit: the largest Euclidean norm, over all values of the update.
    over: what happens to a larger update. `clip`: it is scaled to the limit, with a remark; `reject`: it is refused,
    with the reason.
    Source: Sun, Kairouz, Suresh, McMahan: Can You Really Backdoor Federated Learning? 2019 (arXiv 1911.07963),
    section 4.
    """

    exchange: ClassVar[str] = "onebasin.federation.hooks.norm_bound:BoundedNorms"

    limit: Positive
    over: Literal["clip", "reject"] = "clip"


def needs(method: Any) -> Iterator[str]:
    """Yield a sentence for each choice that does not go with a norm bound or a robust aggregation rule."""
    if method.guarded and (not method.federated or method.parametrization.mask_form):
        yield (
            f"norm_bound and combine={method.combine.kind!r} are for updates, which uplink={method.uplink!r} has not"
        )
