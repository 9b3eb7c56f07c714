"""The context of a message: what sender and receiver know beside its values, and the sender's residuals."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from onebasin.core.seeds import generator


@dataclass(frozen=True)
class CodingContext:
    """The facts on which the encoding of a message depends, beside its values.

    run: 64 bits that identify the run. round, sender: those of the message; the server's number is `SERVER`.
    residuals: the vectors [n] that the sender's stages kept after its last message, by stage; empty at the receiver.
    next_residuals: the vectors [n] that they keep for its next message; the stages add them while they encode.
    known_model: the model [n] that sender and receiver have, if the message encodes a delta to it.
    base_model: the model [n] to which the receiver adds the decoded delta, if the check covers the sum.
    """

    run: int = 0
    round: int = 1
    sender: int = 0
    residuals: dict[str, Tensor] = field(default_factory=dict)
    next_residuals: dict[str, Tensor] = field(default_factory=dict)
    known_model: Tensor | None = None
    base_model: Tensor | None = None

    def generator(self, stage: str, shared: bool = False) -> torch.Generator:
        """Return a generator with a seed that sender and receiver derive from the run, the round and the stage's name.

        shared: all senders of a round have the same seed; otherwise it depends on the sender as well.
        """
        return generator(self.run, "codec", stage, self.round, *([] if shared else [self.sender]))
