"""Expressions that describe how permutations of neurons act on one axis of a tensor, as data.

An axis is `Fixed`, the `Neurons` of a group, a `Product` of axes (row-major, outermost first: flattened images, heads,
gates) or a `Concat` of axes. A group may occur several times in an axis. If only a part of a group occurs there
(`start`, `size`), the same `Concat` contains its other parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from onebasin.symmetry.errors import SymmetryError


@dataclass(frozen=True)
class Fixed:
    """Indices that keep their order, and the reason. If named, some group has one permutation for each index."""

    size: int
    why: str
    name: str | None = None


@dataclass(frozen=True)
class Neurons:
    """The neurons from `start` to `start + size` of a group."""

    group: str
    size: int
    start: int = 0


@dataclass(frozen=True)
class Product:
    """A product of factors, outermost first: index = (first * size of second + second) * size of third + ..."""

    factors: tuple[Expression, ...]

    @property
    def size(self) -> int:
        return math.prod(factor.size for factor in self.factors)


@dataclass(frozen=True)
class Concat:
    """A concatenation of parts."""

    parts: tuple[Expression, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


Expression = Fixed | Neurons | Product | Concat


def leaves(expression: Expression) -> Iterator[Fixed | Neurons]:
    """The `Fixed` and `Neurons` parts of an expression, from left to right."""
    if isinstance(expression, Fixed | Neurons):
        yield expression
    else:
        for each in expression.factors if isinstance(expression, Product) else expression.parts:
            yield from leaves(each)


def label(expression: Expression) -> str | None:
    """The name under which the index within an expression may select the permutation of another group, or None."""
    if isinstance(expression, Neurons):
        return expression.group
    return expression.name if isinstance(expression, Fixed) else None


def to_data(expression: Expression) -> dict[str, Any]:
    """The expression as JSON data."""
    match expression:
        case Fixed(size, why, name):
            return {"fixed": size, "why": why} | ({} if name is None else {"name": name})
        case Neurons(group, size, start):
            return {"group": group, "size": size} | ({"start": start} if start else {})
        case Product(factors):
            return {"product": [to_data(factor) for factor in factors]}
        case Concat(parts):
            return {"concat": [to_data(part) for part in parts]}


def from_data(data: object, where: str) -> Expression:
    """Read data that `to_data` wrote. Raises SymmetryError, which names `where`, for any other data."""
    match data:
        case {"fixed": int(size), "why": str(why), **rest} if size >= 0:
            name = rest.pop("name", None)
            if not rest and (name is None or isinstance(name, str)):
                return Fixed(size, why, name)
        case {"group": str(group), "size": int(size), **rest} if size > 0:
            start = rest.pop("start", 0)
            if not rest and isinstance(start, int) and start >= 0:
                return Neurons(group, size, start)
        case {"product": [_, *_] as factors}:
            return Product(tuple(from_data(factor, where) for factor in factors))
        case {"concat": [_, *_] as parts}:
            return Concat(tuple(from_data(part, where) for part in parts))
    raise SymmetryError(f"{where}: {data!r}; expected an object with fixed and why, group and size, product, or concat")


def describe(expression: Expression) -> str:
    """The expression in one line: `x` for products, `+` for concatenations, neurons by group, fixed indices by size."""
    match expression:
        case Fixed(size):
            return str(size)
        case Neurons(group, size, start):
            return group if not start else f"{group}[{start}:{start + size}]"
        case Product(factors):
            return " x ".join(f"({describe(f)})" if isinstance(f, Concat) else describe(f) for f in factors)
        case Concat(parts):
            return " + ".join(describe(part) for part in parts)
