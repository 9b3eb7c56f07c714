"""The client's loss plus a proximal term.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith: Federated Optimization in Heterogeneous Networks (FedProx). MLSys 2020
(arXiv 1812.06127).
"""

from typing import Annotated, Literal

from pydantic import Field

from onebasin.learning.objective import LocalPhase, Objective


class Proximal(Objective):
    """The client's loss + mu/2 |w - w_received|^2.

    mu: weight of the proximal term.
    """

    kind: Literal["proximal"] = "proximal"
    mu: Annotated[float, Field(ge=0)] = 0.01

    def adjust_gradients(self, phase: LocalPhase) -> None:
        if not self.mu:
            return
        for name, parameter in phase.parameters.items():
            if parameter.grad is not None:  # a frozen or unused parameter has not changed, so its term is zero
                parameter.grad.add_(parameter - phase.received[name], alpha=self.mu)
