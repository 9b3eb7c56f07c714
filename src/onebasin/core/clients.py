"""The types of a client's number and of its reply: the bytes of a message, or a failure."""

from dataclasses import dataclass

ClientId = int


@dataclass(frozen=True)
class Failure:
    """The reason why a request to a client brought no usable reply."""

    reason: str


Reply = tuple[ClientId, bytes | Failure]
