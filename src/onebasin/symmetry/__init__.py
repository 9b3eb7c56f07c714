"""Permutation symmetries: which neurons of any model can be permuted, found by tracing, checked, applied."""

from onebasin.symmetry.errors import SymmetryError, TraceError
from onebasin.symmetry.find import find_permutations
from onebasin.symmetry.groups import Group, Occurrence, TensorAxes
from onebasin.symmetry.spec import Perms, PermutationSpec
from onebasin.symmetry.verify import check_permutations

__all__ = [
    "Group",
    "Occurrence",
    "Perms",
    "PermutationSpec",
    "SymmetryError",
    "TensorAxes",
    "TraceError",
    "check_permutations",
    "find_permutations",
]
