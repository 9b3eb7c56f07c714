"""The errors of all functions that decode bytes from the network."""


class WireError(ValueError):
    """Bytes that are not a valid message or body: truncated, altered, of another run or layout, or out of bounds."""


class Diverged(WireError):
    """Intact bytes that the receiver decodes to other values than the sender, because the two sides' state differs."""
