"""A client: three steps on explicit state. Only `train` needs the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onebasin.core.state import State
from onebasin.federation.client.local_phase import LocalPhase
from onebasin.federation.client.reply import finish_work
from onebasin.federation.client.starting_point import begin_work
from onebasin.federation.client.work import Done, Work
from onebasin.federation.protocol import Protocol
from onebasin.learning.local_training import TrainingFailed

if TYPE_CHECKING:
    from onebasin.federation.run_config import RunConfig
    from onebasin.learning.task import Task


class Client:
    """What every client of a run executes; its number and its state come with each call.

    Slots of the state: `weights`, `buffers` (its own model, or scores, where it keeps some), `optimizer`, `objective`
    (what the objective remembers), what hooks keep (`control`: SCAFFOLD's c_i), `held` and `moved` (the global model,
    where requests encode deltas), `uplink/STAGE` (residuals).
    """

    def __init__(self, config: RunConfig, task: Task) -> None:
        self.config, self.task = config, task
        self.model = task.workspace()
        self.protocol = Protocol(config, task, self.model)
        self._phase = LocalPhase(config, task, self.protocol, self.model)

    def begin(self, client: int, state: State, order: bytes) -> Work:
        """Return the work that a request asks for; `WireError` for a request that is not one for this client.

        The state is not touched.
        """
        return begin_work(self.config, self.protocol, client, state, order)

    def train(self, work: Work) -> Done:
        """Do the work on the client's examples.

        `TrainingFailed` when there are no examples, the loss is no longer finite, or the model raises an error.
        """
        try:
            return self._phase.run(work)
        except TrainingFailed:
            raise
        except Exception as error:  # a user's model may raise anything on a client's data
            raise TrainingFailed(f"{type(error).__name__}: {error}") from error

    def finish(self, state: State, done: Done) -> tuple[State, bytes]:
        """Return the state after the round, and the reply; `NotFinite` when it would have NaN or infinite values.

        The state given is not changed.
        """
        return finish_work(self.config, self.protocol, state, done)
