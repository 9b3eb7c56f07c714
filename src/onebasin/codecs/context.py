"""What both sides know of a message before its first byte, and what the sender alone remembers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from onebasin.core.seeds import generator


@dataclass(frozen=True)
class Scene:
    """What both sides know of a message before they read it: the run, the round, and who sends.

    memory: vectors that the sender kept from its last message, by stage. kept: what it is to keep until its next one,
    filled while encoding. reference: the model that both sides hold, where the message says how another differs. held:
    what both hold bit for bit and what is said is added to; the receiver is to come to the same sum.
    """

    run: int = 0
    round: int = 1
    sender: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)
    reference: Tensor | None = None
    held: Tensor | None = None

    def generator(self, stage: str, shared: bool = False) -> torch.Generator:
        """Draws that sender and receiver make alike; shared: all senders of a round, too."""
        return generator(self.run, "codec", stage, self.round, *([] if shared else [self.sender]))
