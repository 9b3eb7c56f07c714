"""Settings of differential privacy, and the choices of a method that do not go with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from onebasin.core.settings import Positive, Settings


class Privacy(Settings):
    """Differential privacy of all data of any one client: updates are clipped, and noise is added (`method.privacy`).

    clip: the largest Euclidean norm of an update; longer ones are scaled down to it.
    noise: standard deviation of the normal noise in each value, in units of `clip`.
    at: who adds the noise. `client`: each client to its own update; `server`: the server to the sum of all updates; it
    must be trusted.
    delta: the delta for which epsilon is reported.
    seeding: what the noise is drawn from. `secret`: random bytes that are never sent; `run`: the run's seed, which
    makes a study repeatable, and gives no protection against anyone who knows the seed.
    """

    exchange: ClassVar[str] = "onebasin.federation.hooks.privacy:PrivateUpdates"

    clip: Positive
    noise: Annotated[float, Field(ge=0)]
    at: Literal["client", "server"] = "client"
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    seeding: Literal["secret", "run"] = "secret"


def needs(method: Any) -> Iterator[str]:
    """Yield a sentence for each choice by which clients would send something that is not clipped and noised."""
    private = method.privacy
    if private is None:
        return
    for field, allowed in (("start", ("broadcast", "shared-seed")), ("frame", ("none",)), ("repair", ("none",))):
        if getattr(method, field) not in allowed:
            yield (
                f"privacy: {field}={getattr(method, field)!r} sends more than updates to a common model; "
                f"use {allowed[0]!r}"
            )
    if method.scored_by_clients and method.federated:
        yield f"privacy: score={method.score!r} has clients report what has no noise; use 'mean'"
    if not method.federated or method.parametrization.mask_form or method.objective.exchange or method.sketched:
        yield (
            f"privacy is for updates alone; uplink={method.uplink!r}, objective={method.objective.kind!r} and combine="
            f"{method.combine.kind!r} send others or more"
        )
    if private.at == "server" and method.combine.sees_each_model:
        yield f"privacy.at='server' adds noise to a sum, and combine={method.combine.kind!r} makes none"


def run_needs(config: Any) -> Iterator[str]:
    """Yield a sentence for each setting of the run that does not go with privacy."""
    private = config.method.privacy
    if private is not None and private.at == "server" and config.federation.weighting != "uniform":
        yield "method.privacy.at='server' bounds what a client adds to the sum: use federation.weighting='uniform'"
