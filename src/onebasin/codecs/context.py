"""The context of a message: what both sides know before it is decoded, and the residuals that the sender keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from onebasin.core.seeds import generator


@dataclass(frozen=True)
class CodingContext:
    """The facts on which a message's coding depends, beside its values.

    run: 64 bits that identify the run. round, sender: of the message; the server is sender `SERVER`.
    residuals: the vectors [n] that the sender's stages kept after its last message, by stage; empty at the receiver.
    next_residuals: the vectors that they keep for its next message; stages fill it while they encode.
    known_model: the model [n] that sender and receiver both have, where the message encodes the delta to another.
    base_model: the model [n] to which the receiver adds the decoded delta; both sides must get the same sum.
    """

    run: int = 0
    round: int = 1
    sender: int = 0
    residuals: dict[str, Tensor] = field(default_factory=dict)
    next_residuals: dict[str, Tensor] = field(default_factory=dict)
    known_model: Tensor | None = None
    base_model: Tensor | None = None

    def generator(self, stage: str, shared: bool = False) -> torch.Generator:
        """Return a generator that sender and receiver seed alike; shared: the same for all senders of a round."""
        return generator(self.run, "codec", stage, self.round, *([] if shared else [self.sender]))
