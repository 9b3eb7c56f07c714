"""Random operations, replaced by their expectation.

In training mode, models draw dropout masks and noise at random. Their neurons can still be permuted, because each draw
has the same probability as its permutation. To trace and to check such a model, every draw is replaced by its
expectation: dropout becomes the identity, and zero-mean noise vanishes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

_MEANS = {"rand": 0.5, "rand_like": 0.5, "randn": 0.0, "randn_like": 0.0}


def expectation(func: OpOverload, arguments: dict[str, Any], args: Any, kwargs: Any) -> Any:
    """The expected result of a random operation, or NotImplemented for any other operation.

    func: ATen operation. arguments: its arguments by the names in its schema. args, kwargs: the same, as they were
    passed.
    """
    name = func.overloadpacket.__name__
    if name in _MEANS:
        result = func(*args, **kwargs)
        return result.fill_(_MEANS[name])
    if name == "native_dropout":
        source: Tensor = arguments["input"]
        return source.clone(), torch.ones_like(source, dtype=torch.bool)
    if name in ("bernoulli", "bernoulli_"):
        source, chance = arguments["self"], arguments.get("p")
        target = source.clone() if name == "bernoulli" else source
        return target if chance is None else _filled(target, chance)
    if name == "uniform_":
        return arguments["self"].fill_((arguments["from"] + arguments["to"]) / 2)
    if name == "normal_":
        return arguments["self"].fill_(arguments["mean"])
    if name == "exponential_":
        return arguments["self"].fill_(1 / arguments["lambd"])
    if name in ("rrelu_with_noise", "rrelu_with_noise_"):
        slope = (arguments["lower"] + arguments["upper"]) / 2
        leaky = torch.nn.functional.leaky_relu(arguments["self"], slope)
        return leaky if name == "rrelu_with_noise" else arguments["self"].copy_(leaky)
    return NotImplemented


def _filled(target: Tensor, value: float | Tensor) -> Tensor:
    """Overwrite a tensor with a value, or with the values of a tensor."""
    return target.copy_(value) if isinstance(value, Tensor) else target.fill_(value)
