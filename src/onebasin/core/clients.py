"""How the server names a client, and what comes back from one: the bytes of a reply, or a failure."""

from dataclasses import dataclass

ClientId = int


@dataclass(frozen=True)
class Failure:
    """The reason why a client that was asked did not answer."""

    reason: str


Reply = tuple[ClientId, bytes | Failure]
