"""What can go wrong while permutations are sought or applied."""


class SymmetryError(ValueError):
    """A model, an input or a permutation that cannot be worked with; the message says what was found."""


class TraceError(SymmetryError):
    """A model that cannot be traced; the message names the operation and the module."""
