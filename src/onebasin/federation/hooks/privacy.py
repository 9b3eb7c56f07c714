"""Differential privacy of all data of a client: clipped updates, normal noise, and the accountant of the budget.

Dwork, Roth: The Algorithmic Foundations of Differential Privacy. 2014, appendix A (the Gaussian mechanism); McMahan,
Ramage, Talwar, Zhang: Learning Differentially Private Recurrent Language Models. ICLR 2018 (arXiv 1710.06963).
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from onebasin.codecs.codec import flatten
from onebasin.core.layout import Tensors
from onebasin.core.norms import length, shortened
from onebasin.core.seeds import derive
from onebasin.core.settings import ConfigError
from onebasin.core.state import State
from onebasin.federation.cohort import cohort
from onebasin.federation.hooks.hook import Hook, HookContext
from onebasin.methods.privacy_settings import Privacy

if TYPE_CHECKING:
    from onebasin.federation.messages import Report
    from onebasin.federation.run_config import RunConfig
    from onebasin.federation.server.aggregation_buffer import AggregationBuffer
    from onebasin.federation.server.replies import CheckedReply

SECRET = "secret"
"""The fact with the secret from which noise is drawn, in hexadecimal digits."""

_SECRET_BYTES = 32
_KEY_BYTES = 16


class PrivateUpdates(Hook):
    """Clips updates, and adds noise to each of them at the client, or to their sum at the server."""

    def __init__(self, context: HookContext) -> None:
        super().__init__(context)
        privacy = context.config.method.privacy
        assert privacy is not None
        self._privacy: Privacy = privacy

    def begin(self, state: State) -> None:
        """Raise ConfigError if the model has buffers, which are sent without noise, or if there is no accountant."""
        config, buffers = self.context.config, len(self.context.protocol.buffers)
        if buffers:
            raise ConfigError(
                f"method.privacy: task.model={config.task.model.kind!r} has {buffers} buffers (BatchNorm's "
                "statistics), which travel as they are; use a model without, such as task.model.norm='none'"
            )
        epsilon(self._privacy, 1)

    def check(self, reply: CheckedReply) -> tuple[CheckedReply, str]:
        if self._privacy.at == "server" and reply.update is not None:  # a lossy codec may have increased the norm
            reply = replace(reply, update=clipped(reply.update, self._privacy))
        return reply, ""

    def before_aggregation(self, state: State, buffer: AggregationBuffer, round: int) -> None:
        if self._privacy.at != "server":
            return
        secret = secret_of(state.facts, self._privacy, self.context.config.seed, "server")
        state.facts[SECRET] = secret
        deviation = self._privacy.noise * self._privacy.clip
        buffer.update.change(lambda summed: noised(summed, deviation, secret, round))

    def report(self, report: Report) -> Report:
        return replace(report, examples=1, steps=0, loss=math.nan)  # the true numbers would be sent without noise

    def update(self, update: Tensors, facts: dict[str, Any], client: int, round: int) -> Tensors:
        update = clipped(update, self._privacy)
        if self._privacy.at == "client":
            facts[SECRET] = secret_of(facts, self._privacy, self.context.config.seed, client)
            update = noised(update, self._privacy.noise * self._privacy.clip, facts[SECRET], round)
        return update


def clipped(update: Tensors, privacy: Privacy) -> Tensors:
    """Return the update, scaled down to the norm `privacy.clip` if its norm is larger."""
    norm = length(update)
    return update if norm <= privacy.clip else shortened(update, privacy.clip / norm)


def secret_of(facts: Mapping[str, Any], privacy: Privacy, seed: int, *path: str | int) -> str:
    """Return the secret from which noise is drawn: the one in `facts`, or else a new one from the operating system.

    With ``seeding="run"`` it is derived from the run's seed and the path; it is then known to all who know the seed.
    """
    if privacy.seeding == "run":
        return f"{derive(seed, 'noise', *path):016x}"
    return str(facts[SECRET]) if SECRET in facts else os.urandom(_SECRET_BYTES).hex()


def noised(tensors: Tensors, deviation: float, secret: str, round: int) -> Tensors:
    """Return the tensors plus normal noise with this standard deviation.

    The noise is derived from the secret, the round and the tensors. So a repeated request gets the same bytes again,
    and two different updates, requested in the hope that their noise cancels out, have different noise.
    """
    content = round.to_bytes(8, "little") + flatten(tensors).numpy().tobytes()
    key = blake2b(content, key=bytes.fromhex(secret), digest_size=_KEY_BYTES).digest()
    draws = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    return {
        name: tensor + torch.from_numpy(draws.normal(0.0, deviation, tuple(tensor.shape))).to(tensor.dtype)
        for name, tensor in tensors.items()
    }


def epsilon(privacy: Privacy, rounds: int) -> float:
    """Return the epsilon, for `privacy.delta`, of a client that takes part in `rounds` rounds; infinite without noise.

    Neighbouring federations differ in all data of one client. Its clipped update may be reversed, so the sensitivity is
    twice the clip. Client sampling does not reduce epsilon, since the cohorts follow from the run's seed.
    Raises ConfigError if the accountant is not installed.
    """
    try:
        import dp_accounting
        from dp_accounting.pld import PLDAccountant
    except ImportError:
        raise ConfigError("method.privacy needs an accountant: pip install 'onebasin[privacy]'") from None
    if not privacy.noise:
        return math.inf
    accountant = PLDAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(privacy.noise / 2), rounds)
    return float(accountant.get_epsilon(privacy.delta))


def budget(config: RunConfig, clients: int, rounds: int) -> dict[str, Any] | None:
    """Return the privacy budget that the first `rounds` rounds spent; None without privacy settings.

    It is that of the client that took part in the most rounds. Its `epsilon` is None if there was no noise.
    """
    privacy = config.method.privacy
    if privacy is None:
        return None
    rounds_of = Counter(client for round in range(1, rounds + 1) for client in cohort(config, clients, round))
    most = max(rounds_of.values())
    spent = epsilon(privacy, most) if privacy.noise else None
    return {"epsilon": spent, "delta": privacy.delta, "rounds": most, "noise": privacy.at}
