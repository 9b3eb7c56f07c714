"""The errors of all who read bytes from the network."""


class WireError(ValueError):
    """A message that is not what it must be: truncated, altered, foreign, or out of bounds."""


class Diverged(WireError):
    """Whole bytes that say other values here than where they were written: the two sides know different things."""
