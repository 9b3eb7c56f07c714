"""Settings of neuron alignment, and the choices of a method that do not go with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from onebasin.core.settings import Settings

NeuronOrder = Literal["none", "weights", "activations", "signatures", "adopt-one"]


class Alignment(Settings):
    """How a common neuron order is found (table `method.alignment`).

    features: number of responses per neuron, with `frame` `activations` or `signatures`.
    bits: number of bits per response of a signature.
    probes: the inputs to which neurons respond. `noise`: drawn from the run's seed; `public`: the examples that all
    know (`task.public`).
    refine: optimise the permutations of all models jointly afterwards (alignment/cycle_consistent.py); slow.
    every_round: match all models again in each round, and not only those from a client's own initialisation.
    """

    features: Annotated[int, Field(ge=1, le=65536)] = 128
    bits: Annotated[int, Field(ge=1, le=8)] = 4
    probes: Literal["noise", "public"] = "noise"
    refine: bool = False
    every_round: bool = False


def needs(method: Any) -> Iterator[str]:
    """Yield a sentence for each choice that does not go with the method's neuron order."""
    if method.frame == "adopt-one":
        yield from _adoption_needs(method)
    if method.aligned and not method.federated:
        yield f"frame={method.frame!r} needs an uplink and a downlink"
    if method.aligned and method.start != "local" and not method.alignment.every_round:
        yield (
            f"frame={method.frame!r} with start={method.start!r} has nothing to align: all clients begin from one "
            "model; use start='local', or alignment.every_round=true"
        )
    if method.frame == "signatures" and method.alignment.every_round:
        yield "frame='signatures' is for models that meet; alignment.every_round needs frame='weights'"
    if not method.parametrization.keeps_weights and (method.aligned or method.probed):
        yield (
            f"parametrization={method.parametrization.kind!r} has no neurons' weights that others could set; frame="
            f"{method.frame!r}, repair={method.repair!r} and combine={method.combine.kind!r} need 'dense'"
        )


def _adoption_needs(method: Any) -> Iterator[str]:
    if not (method.federated and method.start == "local"):
        yield f"frame='adopt-one' needs start='local', not {method.start!r}, and an uplink"
    least = method.combine.minimum_replies(1)
    if least > 1:
        yield (
            f"{method.combine.why_minimum(1)} needs {least} replies or more, and frame='adopt-one' asks one client for "
            "its model in round 1"
        )


def run_needs(config: Any) -> Iterator[str]:
    """Yield a sentence for each setting of the run that does not go with the method's neuron order."""
    method = config.method
    if method.alignment.probes == "public" and method.aligned and not config.task.public:
        yield "method.alignment.probes='public' needs examples: set task.public to how many there are"
