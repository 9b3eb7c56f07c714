"""The round loop. In each round: open it at the server, exchange messages, close it, score, record."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Protocol

from torch import nn

from onebasin.core.clients import ClientId, Reply
from onebasin.core.state import State
from onebasin.federation.engine import Engine
from onebasin.federation.server.server import EncodedRequests, Server
from onebasin.learning.masks.mask_statistics import kept_by_layer
from onebasin.learning.metrics import Score, evaluate, evaluate_by_class, evaluate_together
from onebasin.learning.task import Task
from onebasin.networks.weights import buffers_of, copy_into, parameters_of
from onebasin.wire.ledger import Ledger

Record = dict[str, Any]
"""The line of history of a round, as JSON values."""


class Observer(Protocol):
    """Is informed of the progress of a run: a display, a tracker."""

    def on_reply(self, round: int, answered: int, asked: int) -> None:
        """A reply or failure arrived: `answered` of the `asked` clients of this exchange are done."""

    def on_round(self, record: Record) -> None:
        """A round was completed and recorded."""


class Journal(Protocol):
    """Stores rounds: a run directory."""

    @property
    def history(self) -> list[Record]:
        """The records of the rounds so far."""
        ...

    def commit(self, record: Record, ledger: Ledger, server: State, engine: Engine) -> None:
        """Store a round: its record, the ledger's new entries, and the states of the server and the clients."""
        ...


def federate(
    server: Server,
    engine: Engine,
    task: Task,
    ledger: Ledger,
    journal: Journal,
    observers: list[Observer],
) -> None:
    """Run the remaining rounds. Each ends with a line of history and a checkpoint, which the journal stores.

    ledger: charged with every message.
    observers: informed of replies and rounds.
    Raises EngineError if the engine fails.
    """
    history = journal.history
    first = len(history) + 1
    start = time.monotonic() - (history[-1]["seconds"] if history else 0.0)
    for round in range(first, server.config.federation.rounds + 1):
        requests = server.open(round)
        while requests:
            ledger.charge_orders(round, requests)
            replies = in_order(requests, engine.exchange(requests))
            requests = server.close(_charged(replies, round, len(requests), ledger, observers))
        ledger.decoded += server.result.decoded
        record = _record(server, engine, task, ledger) | {"seconds": _seconds_since(start)}
        journal.commit(record, ledger, server.state, engine)
        for observer in observers:
            observer.on_round(record)


def in_order(requests: EncodedRequests, replies: Iterator[Reply]) -> Iterator[Reply]:
    """Yield the replies in the order of the requests, each as early as possible.

    So floating-point sums over replies do not depend on the order in which they arrive.
    """
    early: dict[ClientId, Reply] = {}
    waiting = iter(requests)
    expected = next(waiting, None)
    for reply in replies:
        early[reply[0]] = reply
        while expected in early:
            yield early.pop(expected)
            expected = next(waiting, None)


def _seconds_since(start: float) -> float:
    return round(time.monotonic() - start, 3)


def _charged(
    replies: Iterator[Reply], round: int, asked: int, ledger: Ledger, observers: list[Observer]
) -> Iterator[Reply]:
    """Charge each reply to the ledger and inform the observers, then yield it."""
    for answered, (client, reply) in enumerate(replies, start=1):
        if isinstance(reply, bytes):
            ledger.charge(round, client, "up", reply)
        for observer in observers:
            observer.on_reply(round, answered, asked)
        yield client, reply


def _record(server: Server, engine: Engine, task: Task, ledger: Ledger) -> Record:
    """Return the round's line of history."""
    result = server.result
    accuracy, loss = _score(server, engine, task)
    masks = _masks(server)
    remarks = [{"client": client, "remark": remark} for client, remark in sorted(result.remarks.items())]
    return {
        "round": result.round,
        "accuracy": accuracy,
        "loss": loss,
        "train_loss": result.mean(lambda report: report.loss),
        "replies": len(result.reports),
        "failures": [{"client": client, "reason": reason} for client, reason in sorted(result.failures.items())],
        "bytes": ledger.totals(),
        "decoded": asdict(ledger.decoded),
        **({"masks": masks} if masks else {}),
        **({"remarks": remarks} if remarks else {}),
    }


def _masks(server: Server) -> dict[str, dict[str, float]]:
    """Return the statistics of the global model's masks, by layer; {} if it has none."""
    method = server.method
    if not method.parametrization.mask_form or not server.has_model:
        return {}
    return kept_by_layer(server.state.slots["weights"], stochastic=method.combine.mask_form == "probability")


def _score(server: Server, engine: Engine, task: Task) -> tuple[float | None, float | None]:
    """Return accuracy and loss of the global model, or those of the clients' own models; None if not scored."""
    result = server.result
    if server.method.scored_by_clients:
        return _score_of_clients(server, engine, task)
    if not server.has_model or not server.is_evaluated(result.round):
        return None, None
    model = task.workspace()
    copy_into(parameters_of(model), server.state.slots["weights"])
    copy_into(buffers_of(model), server.state.slots["buffers"])
    if server.method.score == "personal":
        return _personal_score(model, task)
    return _finite(evaluate(model, task.dataset.test))


def _personal_score(model: nn.Module, task: Task) -> tuple[float | None, float | None]:
    """Return the mean over clients of one model's scores on their label distributions.

    Clients without examples are left out.
    """
    by_class = evaluate_by_class(model, task.dataset.test, task.dataset.classes)
    scores = [score for client in range(len(task.parts)) if (score := by_class.on(task.labels(client))) is not None]
    if not scores:
        return None, None
    loss = sum(score.loss for score in scores) / len(scores)
    return sum(score.accuracy for score in scores) / len(scores), loss if math.isfinite(loss) else None


def _score_of_clients(server: Server, engine: Engine, task: Task) -> tuple[float | None, float | None]:
    """Return the mean of the scores that clients report, the best of them, or the score of the clients' ensemble."""
    result = server.result
    scored = {client: report for client, report in result.reports.items() if not math.isnan(report.accuracy)}
    if not scored or server.method.score not in ("best", "together"):
        return result.mean(lambda report: report.accuracy), result.mean(lambda report: report.test_loss)
    if server.method.score == "best":
        best = max(scored.values(), key=lambda report: report.accuracy)
        return best.accuracy, best.test_loss
    models = []
    for client in scored:
        slots = State.from_bytes(engine.read_state(client)).slots
        models.append((slots["weights"] | slots["buffers"], float(scored[client].examples)))
    return _finite(evaluate_together(task.workspace(), models, task.dataset.test))


def _finite(score: Score) -> tuple[float, float | None]:
    """Return accuracy and loss; None for a loss that is NaN or infinite, which JSON has not."""
    return score.accuracy, score.loss if math.isfinite(score.loss) else None
