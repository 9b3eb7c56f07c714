"""Whose models are scored (setting `method.score`), and the choices of a method that do not go with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

Score = Literal["mean", "best", "together", "personal", "fine-tuned"]


def needs(method: Any) -> Iterator[str]:
    """Yield a sentence for each choice that does not go with the method's score."""
    if method.score in ("best", "together") and method.federated:
        yield f"score={method.score!r} is for clients that keep their models; others are scored by theirs"
    if method.score == "fine-tuned" and (method.personal or not method.federated):
        yield "score='fine-tuned' is of a common model; clients that keep theirs have 'personal'"


def run_needs(config: Any) -> Iterator[str]:
    """Yield a sentence for each setting of the run that does not go with the method's score."""
    method = config.method
    if config.task.partition.kind == "own" and method.score == "personal" and not method.scored_by_clients:
        yield (
            "method.score='personal' of a common model asks who holds what, and with task.partition='own' only the "
            "machines know; use 'fine-tuned', which clients report"
        )
