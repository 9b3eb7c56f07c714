"""Settings of probe inputs and of the repair of merged models, and the choices that do not go with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from onebasin.core.settings import Count, Settings

Repair = Literal["none", "repair", "rescale", "norm-reset"]


class Probes(Settings):
    """The inputs on which the server runs the clients' models to merge or repair them (table `method.probes`).

    kind: where they come from. `noise`: smooth noise, or uniform tokens, from the run's seed; `sketch`: drawn from
    sketches, Gaussians of low rank that describe each client's inputs; `public`: the examples that all know
    (`task.public`); `generated`: text that the clients' language models generate.
    count: number of inputs.
    rank: number of principal directions of a sketch.
    shrink: the factor by which a sketch reduces the resolution of the inputs.
    """

    kind: Literal["noise", "sketch", "public", "generated"] = "sketch"
    count: Count = 2000
    rank: Annotated[int, Field(ge=1, le=1000)] = 20
    shrink: Annotated[int, Field(ge=1, le=64)] = 2


def needs(method: Any) -> Iterator[str]:
    """Yield a sentence for each choice that does not go with probe inputs and repair."""
    if method.probed and not method.federated:
        yield "repair and combine='least-squares' need an uplink and a downlink"
    if method.repair in ("repair", "rescale") and method.repair_targets == "clients":
        if method.start != "local":
            yield (
                f"repair_targets='clients' needs start='local', not {method.start!r}: clients report their neurons' "
                "statistics with models of their own; use repair_targets='probes'"
            )
        if method.frame == "adopt-one":
            yield "repair_targets='clients' needs models of several clients, and frame='adopt-one' takes one client's"
        if method.alignment.every_round:
            yield (
                "repair_targets='clients' repairs models that join with their own weights, and "
                "alignment.every_round=true repairs in each round; use repair_targets='probes'"
            )


def run_needs(config: Any) -> Iterator[str]:
    """Yield a sentence for each setting of the run that does not go with probe inputs."""
    if config.method.probes.kind == "public" and config.method.probed and not config.task.public:
        yield "method.probes='public' needs examples: set task.public to how many there are"
