"""Runs that end before their time, and whether two runs were the same."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch


class Stop(Exception):
    """A run that is stopped."""


class StopAfter:
    """An observer that stops a run after a round."""

    def __init__(self, round: int) -> None:
        self._round = round

    def on_reply(self, round: int, answered: int, asked: int) -> None: ...

    def on_round(self, record: dict[str, Any]) -> None:
        if record["round"] == self._round:
            raise Stop


class StopWithin:
    """An observer that stops a run in the middle of a round, at its second reply."""

    def __init__(self, round: int) -> None:
        self._round = round

    def on_reply(self, round: int, answered: int, asked: int) -> None:
        if round == self._round and answered == 2:
            raise Stop

    def on_round(self, record: dict[str, Any]) -> None: ...


def assert_same_model(a: Path, b: Path) -> None:
    first, second = (safetensors.torch.load_file(path / "model.safetensors") for path in (a, b))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def assert_same_run(a: Path, b: Path) -> None:
    """Same weights, ledger and history, but for the clock."""
    assert (a / "ledger.csv").read_bytes() == (b / "ledger.csv").read_bytes()
    histories = [
        [{**json.loads(line), "seconds": 0} for line in (path / "history.jsonl").read_text().splitlines()]
        for path in (a, b)
    ]
    assert histories[0] == histories[1]
    if (a / "model.safetensors").exists():
        assert_same_model(a, b)
