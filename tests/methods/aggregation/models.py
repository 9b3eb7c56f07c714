"""Models of a round, for rules that see each."""

from typing import cast

import torch

from onebasin.core.layout import Tensors
from onebasin.methods.aggregation_rule import AggregationRule, ClientModel, MergeContext


def states(*rows: list[float]) -> list[Tensors]:
    """Return one model a row."""
    return [{"w": torch.tensor(row)} for row in rows]


def merged(rule: AggregationRule, rows: list[Tensors]) -> tuple[Tensors, list[int]]:
    """Merge one model a row; return the merged one, and the numbers of the rows that were left out."""
    models = [ClientModel(number, 1.0, row, {}, joined=False) for number, row in enumerate(rows)]
    found = rule.merge(models, cast(MergeContext, None))
    return found.state, list(found.left_out)
