"""What each ATen operation demands of the axes of its tensors, one file for each kind of operation.

An operation without a rule makes every axis that it touches rigid.
"""

from onebasin.symmetry.rules import (  # noqa: F401  (each registers its rules)
    contractions,
    elementwise,
    normalisations,
    reductions,
    selections,
    shapes,
    spatial,
)
from onebasin.symmetry.rules.registry import creates, find_rule

__all__ = ["creates", "find_rule"]
