"""The registry of rules by ATen operation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch._ops import OpOverload

from onebasin.symmetry.call import Rule

RULES: dict[str, Rule] = {}
CREATORS: set[str] = set()


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these operations, including their in-place and out= variants.

    After the operation has run, the rule gets its `Call`, unifies axes that must have the same permutation, and returns
    the axes of each output tensor.
    """

    def register(function: Rule) -> Rule:
        for name in names:
            assert name not in RULES, f"two rules for {name}"
            RULES[name] = function
        return function

    return register


def find_rule(func: OpOverload) -> Rule | None:
    """The rule of an operation, or None."""
    return _find(func.namespace, func.overloadpacket.__name__, func._overloadname)


def creates(func: OpOverload) -> bool:
    """Whether an operation makes a new tensor without reading values from its arguments."""
    return func.namespace == "aten" and func.overloadpacket.__name__ in CREATORS


@cache
def _find(namespace: str, name: str, overload: str) -> Rule | None:
    """The rule for the name and overload of an operation."""
    if namespace != "aten":
        return None
    functional = name if name in RULES or not name.endswith("_") else name[:-1]
    if functional in ("max", "min") and overload not in ("other", "out"):
        return RULES[f"{functional}.dim" if overload.startswith("dim") else f"{functional}.all"]
    if functional in RULES:
        return RULES[functional]
    return RULES["pointwise"] if any(_is_pointwise(each, overload) for each in (name, functional)) else None


def _is_pointwise(name: str, overload: str) -> bool:
    """Whether PyTorch tags an operation as pointwise."""
    packet = getattr(torch.ops.aten, name, None)
    if packet is None or name == "equal":
        return False
    overloads = packet.overloads()
    chosen = [overload] if overload in overloads else overloads
    return all(torch.Tag.pointwise in getattr(packet, each).tags for each in chosen)
