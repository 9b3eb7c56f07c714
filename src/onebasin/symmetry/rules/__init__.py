"""The rules of ATen operations: which constraints each operation puts on the axes of its tensors.

There is one file for each kind of operation. An operation without a rule makes all axes of its tensors rigid.
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
