"""From expressions to indices: where an axis takes its values from, and where a group stands in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from onebasin.symmetry.expressions import Concat, Expression, Fixed, Neurons, Product, label, leaves

Context = Mapping[str, Tensor]
"""For the labels of other axes: the index that a place of the new tensor has there."""

Within = Mapping[str, tuple[str, ...]]
"""For each group: the labels whose indices choose its permutation."""


def split_index(product: Product, index: Tensor) -> Iterator[tuple[Expression, Tensor, int]]:
    """For each factor of a product: the factor, the index within it, and its stride."""
    stride = product.size
    for factor in product.factors:
        stride //= factor.size
        yield factor, index.div(stride, rounding_mode="floor") % factor.size, stride


def coordinates(expression: Expression, index: Tensor) -> dict[str, Tensor]:
    """The index within each labelled factor that the whole axis has."""
    if isinstance(expression, Product):
        return {name: at for factor, at, _ in split_index(expression, index) if (name := label(factor)) is not None}
    name = label(expression)
    return {} if name is None else {name: index}


def source(
    expression: Expression, index: Tensor, context: Context, perms: Mapping[str, Tensor], within: Within
) -> Tensor:
    """Where in the old axis the new axis takes its values from, at each new `index`.

    The indices that choose among the permutations of a group are looked up in the same product first, then in
    `context`. Groups that are not in `perms` keep their order.
    """
    match expression:
        case Fixed():
            return index
        case Neurons(group):
            if group not in perms:
                return index
            return perms[group][(*(context[name] for name in within[group]), index)]
        case Product():
            beside = {**context, **coordinates(expression, index)}
            result = torch.zeros_like(index)
            for factor, at, stride in split_index(expression, index):
                result = result + stride * source(factor, at, beside, perms, within)
            return result
        case Concat():
            result = index
            for part, offset, elsewhere in _laid_out(expression):
                inside = (index >= offset) & (index < offset + part.size)
                at = (index - offset).clamp(0, part.size - 1)
                if elsewhere is not None and isinstance(part, Neurons):
                    neuron = source(Neurons(part.group, len(elsewhere)), at + part.start, context, perms, within)
                    taken = elsewhere[neuron]
                else:
                    taken = offset + source(part, at, context, perms, within)
                result = torch.where(inside, taken, result)
            return result


def _laid_out(whole: Concat) -> Iterator[tuple[Expression, int, Tensor | None]]:
    """Each part with its offset, and for neurons the positions of all that belong to the same copy of their group."""
    offsets = [0, *accumulate(part.size for part in whole.parts)]
    copies: dict[tuple[str, int], list[tuple[Neurons, int]]] = {}
    seen: Counter[tuple[str, int]] = Counter()
    keys: list[tuple[str, int] | None] = []
    for part, offset in zip(whole.parts, offsets, strict=False):
        if isinstance(part, Neurons):
            seen[part.group, part.start] += 1
            keys.append((part.group, seen[part.group, part.start]))
            copies.setdefault((part.group, seen[part.group, part.start]), []).append((part, offset))
        else:
            keys.append(None)
    for part, offset, key in zip(whole.parts, offsets, keys, strict=False):
        if key is None:
            yield part, offset, None
        else:
            pieces = sorted(copies[key], key=lambda piece: piece[0].start)
            yield part, offset, torch.cat([torch.arange(begin, begin + piece.size) for piece, begin in pieces])


def needs(expression: Expression, within: Within) -> set[str]:
    """The labels that choose permutations in an axis and are not found in the same product."""
    match expression:
        case Fixed():
            return set()
        case Neurons(group):
            return set(within.get(group, ()))
        case Product(factors):
            found = {name for factor in factors if (name := label(factor)) is not None}
            return {name for factor in factors for name in needs(factor, within)} - found
        case Concat(parts):
            return {name for part in parts for name in needs(part, within)}


@dataclass(frozen=True)
class Place:
    """A group in an axis: `table[..., neuron, :]` are the indices of a neuron; the leading dimensions are `labels`."""

    labels: tuple[str | None, ...]
    table: Tensor


def places(expression: Expression, group: str) -> list[Place]:
    """Every place of a group, or of a fixed index set with that name, in an axis."""
    return list(_places(expression, group, Place((), torch.arange(expression.size))))


def _places(expression: Expression, group: str, place: Place) -> Iterator[Place]:
    if not any(label(leaf) == group for leaf in leaves(expression)):
        return
    match expression:
        case Product(factors):
            grid = place.table.reshape([*place.table.shape[:-1], *(factor.size for factor in factors)])
            for number, factor in enumerate(factors):
                moved = grid.movedim(len(place.labels) + number, -1)
                beside = tuple(label(other) for i, other in enumerate(factors) if i != number)
                yield from _places(factor, group, Place((*place.labels, *beside), moved))
        case Concat():
            for part, offset, elsewhere in _laid_out(expression):
                if elsewhere is None:
                    table = place.table[..., offset : offset + part.size]
                    yield from _places(part, group, Place(place.labels, table))
                elif label(part) == group and isinstance(part, Neurons) and part.start == 0:
                    yield Place(place.labels, place.table[..., elsewhere])
        case Fixed() | Neurons():
            yield place
