"""Differential privacy of a client's data: its settings, and which choices go with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from onebasin.core.settings import Positive, Settings


class Privacy(Settings):
    """What others learn of any one client's data is bounded: updates are clipped, and noise is added.

    clip: the largest norm of an update. noise: its standard deviation in each value, in clips. at: `client`,
    who adds it to its own update; or `server`, who adds as much to the sum of all, and is trusted. delta: at which
    epsilon is reported. seeding: noise is drawn from a `secret` that is never sent; or from the `run`'s seed, which
    makes studies repeatable and protects nobody who knows it.
    """

    exchange: ClassVar[str] = "onebasin.federation.hooks.privacy:PrivateUpdates"

    clip: Positive
    noise: Annotated[float, Field(ge=0)]
    at: Literal["client", "server"] = "client"
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    seeding: Literal["secret", "run"] = "secret"


def needs(method: Any) -> Iterator[str]:
    """Yield a sentence for each choice that sends what is neither clipped nor noised."""
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
