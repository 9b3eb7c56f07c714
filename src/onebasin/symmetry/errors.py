"""Errors of the search for permutations and of their application."""


class SymmetryError(ValueError):
    """A model, an input or a permutation that is invalid. The message states what was found and what was expected."""


class TraceError(SymmetryError):
    """A model that cannot be traced. The message names the operation and the module."""
