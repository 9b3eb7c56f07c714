"""The summary of a finished run: its accuracy, its bytes, the bytes to target accuracies, and its environment."""

import os
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from onebasin.federation.hooks.privacy import budget
from onebasin.federation.run_config import RunConfig
from onebasin.learning.task import Task

TARGETS = {  # target accuracies for data sets whose configuration sets none
    "digits": (0.80, 0.90, 0.95),
    "fashion-mnist": (0.84, 0.86, 0.88),
    "mnist": (0.95, 0.97, 0.98, 0.99),
    "har": (0.80, 0.85, 0.88, 0.90),
    "cifar10": (0.60, 0.70, 0.75, 0.80),
    "shakespeare": (0.40, 0.45, 0.50),
}
LAST_ROUNDS = 10


def summarise(config: RunConfig, task: Task, parameters: int, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of `summary.json`.

    parameters: the number of parameters of the model. history: the records of all rounds; accuracies are taken from
    those that were evaluated.
    """
    evaluated = [record for record in history if record["accuracy"] is not None]
    accuracies = [record["accuracy"] for record in evaluated]
    last = accuracies[-LAST_ROUNDS:]
    targets = config.tracking.targets or TARGETS.get(task.dataset.name.split(":")[0], ())
    # A run in which no model is sent has no bytes to a target.
    candidates = evaluated if config.method.federated else []
    reached = {_target_key(target): _first_to_reach(candidates, target) for target in targets}
    return {
        "method": config.method.name,
        "label": config.title,
        "kind": "federated" if config.method.federated else "reference",
        "dataset": task.dataset.name,
        "model": config.task.model.kind,
        "parameters": parameters,
        "clients": len(task.parts),
        "rounds": len(history),
        "seed": config.seed,
        "accuracy": {
            "final": accuracies[-1] if evaluated else None,
            "best": max(accuracies, default=None),
            "last10": sum(last) / len(last) if last else None,
        },
        "bytes": history[-1]["bytes"],
        "decoded": history[-1]["decoded"],
        "bytes_to_target": {target: record and record["bytes"]["total"] for target, record in reached.items()},
        "rounds_to_target": {target: record and record["round"] for target, record in reached.items()},
        **({"privacy": spent} if (spent := budget(config, len(task.parts), len(history))) else {}),
        "failures": sum(len(record["failures"]) for record in history),
        "seconds": history[-1]["seconds"],
        "dataset_bytes": task.dataset.compressed_bytes,
        "config_hash": config.identity(),
        "environment": environment(),
    }


@cache
def environment() -> dict[str, Any]:
    """Return the commit, the machine and the versions with which figures are measured."""
    return {
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


def _target_key(target: float) -> str:
    """Return a target accuracy as a key of the summary: with two decimals, or with more if it needs them."""
    return f"{target:.2f}" if round(target, 2) == target else repr(target)


def _first_to_reach(evaluated: Sequence[dict[str, Any]], target: float) -> dict[str, Any] | None:
    return next((record for record in evaluated if record["accuracy"] >= target), None)


def _commit() -> str:
    """Return the checkout's commit ("-dirty" with uncommitted changes); without a checkout, the package's version."""
    here = Path(__file__).parent
    try:
        # This fails when the package is installed inside the working tree of another repository.
        _git(here, "ls-files", "--error-unmatch", Path(__file__).name)
        return _git(here, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        from importlib.metadata import version

        return f"onebasin {version('onebasin')}"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
