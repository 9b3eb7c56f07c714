"""Permutation symmetries: which neurons of a `torch.nn.Module` can be permuted without a change of its function.

`find_permutations` traces a model and returns a `PermutationSpec`, which applies, inverts and composes permutations,
explains what is fixed, and is stored as JSON. `check_permutations` measures the numerical error of each group.

Each file imports only files that stand before it in this list:
specification: errors, expressions, indexing, groups, storage, summary, spec, weakening
execution: nested_tensors, expectations, double_precision, sandbox
equations: algebra, axis_structure, couplings, tracer_protocol, call, rules, tracer
search: assemble (equations to specification), verify (numeric check), model_trace (all runs of a model), find
"""

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
