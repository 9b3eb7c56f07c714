"""The client's loss, with gradients corrected by control variates.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh: SCAFFOLD. ICML 2020 (arXiv 1910.06378), algorithm 1.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from onebasin.learning.objective import LocalPhase, Objective


class ControlVariates(Objective):
    """The client's loss, with the difference c - c_i of the control variates added to every gradient (SCAFFOLD)."""

    exchange: ClassVar[str] = "onebasin.federation.hooks.control_variates:ControlVariateExchange"

    kind: Literal["control-variates"] = "control-variates"

    def adjust_gradients(self, phase: LocalPhase) -> None:
        for name, parameter in phase.parameters.items():
            if parameter.grad is not None:  # frozen or unused
                parameter.grad.add_(phase.correction[name])

    def needs(self, method: Any) -> Iterator[str]:
        if not method.federated:
            yield "objective='control-variates' needs an uplink and a downlink"
        elif not method.is_dense:
            yield f"objective='control-variates' needs an uplink and a downlink of {', '.join(method.dense_codecs)}"
        if method.frame == "adopt-one":
            yield "frame='adopt-one' has no common model in round 1, which 'control-variates' needs"
        if method.aligned:
            yield f"frame={method.frame!r} and objective='control-variates' exclude each other"
        if method.models == "masked":
            yield (
                "objective='control-variates' corrects gradients of weights, and with models='masked' clients train "
                "scores"
            )
        if method.guarded:
            yield (
                f"objective='control-variates' takes the mean of what clients say of their variates, which neither "
                f"norm_bound nor combine={method.combine.kind!r} guards"
            )

    def run_needs(self, config: Any) -> Iterator[str]:
        recipe = config.training
        plain = ("sgd", 0.0, 0.0, None)
        used = [(recipe.optimizer, recipe.momentum, recipe.weight_decay, recipe.clip)]
        if config.method.start == "local":
            warmup = recipe.warmup_recipe
            used.append((warmup.optimizer, warmup.momentum, warmup.weight_decay, warmup.clip))
        if any(each != plain for each in used):
            yield (
                "objective='control-variates' needs training.optimizer='sgd' with momentum=0, weight_decay=0 and "
                "no clip: its variates are (w_received - w_trained) / (steps * lr) (SCAFFOLD, eq. 4, option II)"
            )
