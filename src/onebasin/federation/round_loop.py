"""The round loop: open, exchange, close, score, record; then the next round."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Protocol

from torch import nn

from onebasin.core.clients import ClientId, Reply
from onebasin.core.state import State
from onebasin.federation.engine import Engine
from onebasin.federation.server.server import Orders, Server
from onebasin.learning.masks.mask_statistics import kept_by_layer
from onebasin.learning.metrics import Score, evaluate, evaluate_by_class, evaluate_together
from onebasin.learning.task import Task
from onebasin.networks.weights import buffers_of, copy_into, parameters_of
from onebasin.wire.ledger import Ledger

Record = dict[str, Any]


class Observer(Protocol):
    """What follows a run: a progress display, a tracker."""

    def on_reply(self, round: int, answered: int, asked: int) -> None: ...

    def on_round(self, record: Record) -> None: ...


class Journal(Protocol):
    """Where rounds are kept: a run directory."""

    @property
    def history(self) -> list[Record]: ...

    def commit(self, record: Record, ledger: Ledger, server: State, engine: Engine) -> None:
        """Keep one round."""
        ...


def federate(
    server: Server,
    engine: Engine,
    task: Task,
    ledger: Ledger,
    journal: Journal,
    observers: list[Observer],
) -> None:
    """Play the rounds that are left; each ends with a line of history and a checkpoint."""
    history = journal.history
    first = len(history) + 1
    began = time.monotonic() - (history[-1]["seconds"] if history else 0.0)
    for round in range(first, server.config.federation.rounds + 1):
        orders = server.open(round)
        while orders:
            ledger.charge_orders(round, orders)
            replies = in_order(orders, engine.exchange(orders))
            orders = server.close(_watched(replies, round, len(orders), ledger, observers))
        ledger.decoded += server.result.decoded
        record = _record(server, engine, task, ledger) | {"seconds": _elapsed(began)}
        journal.commit(record, ledger, server.state, engine)
        for observer in observers:
            observer.on_round(record)


def in_order(orders: Orders, replies: Iterator[Reply]) -> Iterator[Reply]:
    """Yield the replies in the orders' order, as early as that allows, so that sums do not depend on who is fast."""
    early: dict[ClientId, Reply] = {}
    waiting = iter(orders)
    expected = next(waiting, None)
    for reply in replies:
        early[reply[0]] = reply
        while expected in early:
            yield early.pop(expected)
            expected = next(waiting, None)


def _elapsed(began: float) -> float:
    return round(time.monotonic() - began, 3)


def _watched(
    replies: Iterator[Reply], round: int, asked: int, ledger: Ledger, observers: list[Observer]
) -> Iterator[Reply]:
    """Charge what passes, and tell the observers."""
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
    """Return what the global model's masks keep, where it has masks."""
    method = server.method
    if not method.parametrization.mask_form or not server.has_model:
        return {}
    return kept_by_layer(server.state.slots["weights"], stochastic=method.combine.mask_form == "probability")


def _score(server: Server, engine: Engine, task: Task) -> tuple[float | None, float | None]:
    """Score the common model; where there is none, what the clients' own models are counted as."""
    result = server.result
    if server.method.scored_by_clients:
        return _own_score(server, engine, task)
    if not server.has_model or not server.is_evaluated(result.round):
        return None, None
    model = task.workspace()
    copy_into(parameters_of(model), server.state.slots["weights"])
    copy_into(buffers_of(model), server.state.slots["buffers"])
    if server.method.score == "personal":
        return _served(model, task)
    return _known(evaluate(model, task.dataset.test))


def _served(model: nn.Module, task: Task) -> tuple[float | None, float | None]:
    """The mean over clients of one model's scores on their distributions; who has no examples is left out."""
    found = evaluate_by_class(model, task.dataset.test, task.dataset.classes)
    scores = [score for client in range(len(task.parts)) if (score := found.on(task.labels(client))) is not None]
    if not scores:
        return None, None
    loss = sum(score.loss for score in scores) / len(scores)
    return sum(score.accuracy for score in scores) / len(scores), loss if math.isfinite(loss) else None


def _own_score(server: Server, engine: Engine, task: Task) -> tuple[float | None, float | None]:
    result = server.result
    scored = {client: each for client, each in result.reports.items() if not math.isnan(each.accuracy)}
    if not scored or server.method.score not in ("best", "together"):
        return result.mean(lambda report: report.accuracy), result.mean(lambda report: report.test_loss)
    if server.method.score == "best":
        best = max(scored.values(), key=lambda report: report.accuracy)
        return best.accuracy, best.test_loss
    models = []
    for client in scored:
        slots = State.from_bytes(engine.read_state(client)).slots
        models.append((slots["weights"] | slots["buffers"], float(scored[client].examples)))
    return _known(evaluate_together(task.workspace(), models, task.dataset.test))


def _known(score: Score) -> tuple[float, float | None]:
    return score.accuracy, score.loss if math.isfinite(score.loss) else None
