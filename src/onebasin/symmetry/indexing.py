"""From expressions to indices: from where a permuted axis takes its values, and at which indices a group is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from onebasin.symmetry.expressions import Concat, Expression, Fixed, Neurons, Product, label, leaves

Context = Mapping[str, Tensor]
"""For the labels of other axes: the index within the label, at each position of the new tensor."""

Within = Mapping[str, tuple[str, ...]]
"""For each group: the labels whose indices select its permutation."""


def split_index(product: Product, index: Tensor) -> Iterator[tuple[Expression, Tensor, int]]:
    """Yield each factor of a product with the index within the factor and the stride of the factor."""
    stride = product.size
    for factor in product.factors:
        stride //= factor.size
        yield factor, index.div(stride, rounding_mode="floor") % factor.size, stride


def coordinates(expression: Expression, index: Tensor) -> dict[str, Tensor]:
    """The index within each labelled factor of an axis, by label. Factors inside a concatenation have none."""
    if isinstance(expression, Product):
        return {name: at for factor, at, _ in split_index(expression, index) if (name := label(factor)) is not None}
    name = label(expression)
    return {} if name is None else {name: index}


def source_index(
    expression: Expression, index: Tensor, context: Context, perms: Mapping[str, Tensor], within: Within
) -> Tensor:
    """The index of the old axis from which each index of the new axis takes its values.

    index: int64 indices of the new axis, of any shape. context: indices within the labels of other axes. perms: by
    group, [*outer sizes, neurons]; a group without a permutation keeps its order.
    A label that selects a permutation is looked up in the same product first, then in `context`.
    """
    match expression:
        case Fixed():
            return index
        case Neurons(group):
            if group not in perms:
                return index
            return perms[group][(*(context[name] for name in within[group]), index)]
        case Product():
            context_inside = {**context, **coordinates(expression, index)}
            result = torch.zeros_like(index)
            for factor, at, stride in split_index(expression, index):
                result = result + stride * source_index(factor, at, context_inside, perms, within)
            return result
        case Concat():
            result = index
            for part, offset, copy_positions in _parts_with_offsets(expression):
                inside = (index >= offset) & (index < offset + part.size)
                at = (index - offset).clamp(0, part.size - 1)
                if copy_positions is not None and isinstance(part, Neurons):
                    neuron = source_index(
                        Neurons(part.group, len(copy_positions)), at + part.start, context, perms, within
                    )
                    taken = copy_positions[neuron]
                else:
                    taken = offset + source_index(part, at, context, perms, within)
                result = torch.where(inside, taken, result)
            return result


def _parts_with_offsets(whole: Concat) -> Iterator[tuple[Expression, int, Tensor | None]]:
    """Yield each part of a concatenation with its offset and, for neurons, the positions of all neurons of its copy.

    A group may be concatenated several times, and each copy may be divided into several parts.
    """
    offsets = [0, *accumulate(part.size for part in whole.parts)]
    copies: dict[tuple[str, int], list[tuple[Neurons, int]]] = {}
    seen: Counter[tuple[str, int]] = Counter()
    copy_keys: list[tuple[str, int] | None] = []
    for part, offset in zip(whole.parts, offsets, strict=False):
        if isinstance(part, Neurons):
            seen[part.group, part.start] += 1
            copy_keys.append((part.group, seen[part.group, part.start]))
            copies.setdefault((part.group, seen[part.group, part.start]), []).append((part, offset))
        else:
            copy_keys.append(None)
    for part, offset, key in zip(whole.parts, offsets, copy_keys, strict=False):
        if key is None:
            yield part, offset, None
        else:
            pieces = sorted(copies[key], key=lambda piece: piece[0].start)
            yield part, offset, torch.cat([torch.arange(begin, begin + piece.size) for piece, begin in pieces])


def missing_labels(expression: Expression, within: Within) -> set[str]:
    """The labels that select permutations in an axis and are not factors of the same product."""
    match expression:
        case Fixed():
            return set()
        case Neurons(group):
            return set(within.get(group, ()))
        case Product(factors):
            found = {name for factor in factors if (name := label(factor)) is not None}
            return {name for factor in factors for name in missing_labels(factor, within)} - found
        case Concat(parts):
            return {name for part in parts for name in missing_labels(part, within)}


@dataclass(frozen=True)
class GroupIndices:
    """The indices of a group in an axis: `table[..., neuron]`, for each index of the leading dimensions.

    labels: the label of each leading dimension, None for a factor without one.
    """

    labels: tuple[str | None, ...]
    table: Tensor


def group_indices(expression: Expression, group: str) -> list[GroupIndices]:
    """The indices of each occurrence of a group, or of a fixed index set of that name, in an axis."""
    return list(_group_indices(expression, group, GroupIndices((), torch.arange(expression.size))))


def _group_indices(expression: Expression, group: str, found: GroupIndices) -> Iterator[GroupIndices]:
    """Yield the occurrences in an expression of which index i has the indices `found.table[..., i]` in the axis."""
    if not any(label(leaf) == group for leaf in leaves(expression)):
        return
    match expression:
        case Product(factors):
            grid = found.table.reshape([*found.table.shape[:-1], *(factor.size for factor in factors)])
            for number, factor in enumerate(factors):
                moved = grid.movedim(len(found.labels) + number, -1)
                other_labels = tuple(label(other) for i, other in enumerate(factors) if i != number)
                yield from _group_indices(factor, group, GroupIndices((*found.labels, *other_labels), moved))
        case Concat():
            for part, offset, copy_positions in _parts_with_offsets(expression):
                if copy_positions is None:
                    table = found.table[..., offset : offset + part.size]
                    yield from _group_indices(part, group, GroupIndices(found.labels, table))
                elif label(part) == group and isinstance(part, Neurons) and part.start == 0:
                    yield GroupIndices(found.labels, found.table[..., copy_positions])
        case Fixed() | Neurons():
            yield found
