"""A client: three steps on explicit state. Only the second one, `train`, needs the data."""

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
    """The code of all clients of a run; a client's number and state are arguments of each call.

    Slots of the state, as far as the method needs them:
    `weights`, `buffers`: the client's own model, or its scores;
    `optimizer`: the state of the optimiser;
    `objective`: the memory of the objective;
    `control`: what a hook keeps (SCAFFOLD: the control variate c_i);
    `held`: the weights of the global model in the client's version, if requests encode deltas;
    `moved`: for each of these values, whether it changed in the last two rounds;
    `uplink/STAGE`: the residuals of a stage.
    """

    def __init__(self, config: RunConfig, task: Task) -> None:
        self.config, self.task = config, task
        self.model = task.workspace()
        self.protocol = Protocol(config, task, self.model)
        self._phase = LocalPhase(config, task, self.protocol, self.model)

    def begin(self, client: int, state: State, request: bytes) -> Work:
        """Decode a request, and return the work that it asks for. The state is not changed.

        Raises WireError if the request is malformed, not of this run, outdated, or asks for what the method has not.
        """
        return begin_work(self.config, self.protocol, client, state, request)

    def train(self, work: Work) -> Done:
        """Train and score on the client's examples, as the work asks.

        Raises TrainingFailed if there are no examples, if the loss is not finite, or if the model raises an error.
        """
        try:
            return self._phase.run(work)
        except TrainingFailed:
            raise
        except Exception as error:  # a user's model may raise anything on a client's data
            raise TrainingFailed(f"{type(error).__name__}: {error}") from error

    def finish(self, state: State, done: Done) -> tuple[State, bytes]:
        """Return the client's next state and the encoded reply. The given state is not changed.

        Raises NotFinite if the reply would have NaN or infinite values.
        """
        return finish_work(self.config, self.protocol, state, done)
