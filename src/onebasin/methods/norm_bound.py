"""A bound on the norm of a client's update."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from onebasin.core.settings import Positive, Settings


class NormBound(Settings):
    """The Euclidean norm of all values of a client's update together is at most `limit`.

    over: a longer update is scaled to the limit (`clip`), or refused with a recorded reason (`reject`). Sun,
    Kairouz, Suresh, McMahan: Can You Really Backdoor Federated Learning? 2019 (arXiv 1911.07963), section 4.
    """

    exchange: ClassVar[str] = "onebasin.federation.hooks.norm_bound:BoundedNorms"

    limit: Positive
    over: Literal["clip", "reject"] = "clip"


def needs(method: Any) -> Iterator[str]:
    """Yield a sentence for each choice that does not go with bounded or robustly aggregated updates."""
    if method.guarded and (not method.federated or method.parametrization.mask_form):
        yield (
            f"norm_bound and combine={method.combine.kind!r} are for updates, which uplink={method.uplink!r} has not"
        )
