"""The one error of all who read bytes from the network."""


class WireError(ValueError):
    """A message that is not what it must be: truncated, altered, foreign, or out of bounds."""
