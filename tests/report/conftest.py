"""Synthetic runs whose curves follow a formula, for the tests of the report; no figure here is measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onebasin.results.records import RunRecord

LENET = 61_706


def build_run(
    label: str = "FedAvg fp32",
    *,
    seed: int = 0,
    method: str = "fedavg",
    uplink: str = "fp32",
    downlink: str = "fp32",
    start: str = "broadcast",
    rounds: int = 20,
    done: int | None = None,
    ceiling: float = 0.87,
    first: float = 0.45,
    up: int = 2_468_240,
    down: int = 2_468_240,
    init: int = 0,
    align: int = 0,
    clients: int = 10,
    classes: int = 10,
    targets: tuple[str, ...] = ("0.80", "0.84", "0.86"),
    failures: dict[int, list[dict[str, Any]]] | None = None,
    directory: Path | None = None,
    epochs: int = 3,
    dataset: str = "fashion-mnist",
) -> RunRecord:
    """Return a run whose accuracy rises from `first` to `ceiling`; each round sends `up` and `down` bytes.

    done: the number of rounds so far, for a run that is not finished.
    """
    rng = np.random.default_rng([seed, len(label)])
    reference = uplink == "none"
    history = []
    for number in range(1, (rounds if done is None else done) + 1):
        rise = 1 - math.exp(-4 * (number - 1) / rounds)
        accuracy = first + (ceiling - first) * rise + float(rng.normal(0, 0.004))
        sent = {"up": up * number, "down": down * number, "init": init, "align": align}
        sent = dict.fromkeys(sent, 0) if reference else sent
        total = sum(sent.values())
        multicast = total - sent["down"] + sent["down"] // clients
        counts = sent | {"control": 100 * number, "total": total, "total_multicast": multicast}
        line = {"round": number, "accuracy": min(accuracy, 0.999), "loss": 1.0, "train_loss": 1.0, "replies": clients}
        failed = (failures or {}).get(number, [])
        history.append(line | {"failures": failed, "bytes": counts, "seconds": 1.5 * number})
    config = {
        "label": label,
        "seed": seed,
        "method": {"name": method, "uplink": uplink, "downlink": downlink, "start": start},
        "task": {
            "dataset": dataset,
            "model": {"kind": "lenet5"},
            "partition": {"kind": "dirichlet", "alpha": 0.3},
            "clients": clients,
        },
        "training": {"lr": 0.05, "epochs": epochs},
        "federation": {"rounds": rounds},
        "engine": {"kind": "single"},
    }
    counts = np.random.default_rng(7).dirichlet([0.3] * clients, classes).T * 6000
    holdings = {"classes": [str(k) for k in range(classes)], "counts": counts.astype(int).tolist()}
    summary = _summary(config, history, targets, reference) if done is None else {}
    return RunRecord(directory, label, config, history, summary, holdings)


def _summary(config: dict[str, Any], history: list[Any], targets: tuple[str, ...], reference: bool) -> dict[str, Any]:
    scores = [line["accuracy"] for line in history]
    reached = {t: [line for line in history if line["accuracy"] >= float(t)][:1] for t in targets}
    return {
        "method": config["method"]["name"],
        "label": config["label"],
        "dataset": config["task"]["dataset"],
        "model": "lenet5",
        "parameters": LENET,
        "clients": config["task"]["clients"],
        "rounds": len(history),
        "seed": config["seed"],
        "accuracy": {"final": scores[-1], "best": max(scores), "last10": sum(scores[-10:]) / len(scores[-10:])},
        "bytes": history[-1]["bytes"],
        "bytes_to_target": {t: line[0]["bytes"]["total"] if line else None for t, line in reached.items()},
        "rounds_to_target": {t: line[0]["round"] if line else None for t, line in reached.items()},
        "seconds": history[-1]["seconds"],
        "dataset_bytes": 26_421_880,
        "config_hash": "0123456789abcdef",
        "environment": {"commit": "abc1234", "torch": "2.4", "python": "3.11", "machine": "x86_64", "cores": 2},
        "kind": "reference" if reference else "federated",
    }


ARMS: dict[str, dict[str, Any]] = {
    "FedAvg fp32": {},
    "FedAvg fp16": {"uplink": "fp16", "downlink": "fp16", "up": 1_234_900, "down": 1_234_900},
    "FedAvg int8": {"uplink": "int8", "downlink": "int8", "up": 618_400, "down": 618_400, "ceiling": 0.866},
    "Shared seed": {"start": "shared-seed", "down": 2_221_400, "init": 80},
    "Own inits, naive average": {"start": "local", "ceiling": 0.105, "first": 0.095},
    "Adopt one client": {"start": "local", "init": 246_824, "ceiling": 0.862},
    "Centralised": {"method": "centralised", "uplink": "none", "downlink": "none", "ceiling": 0.889, "first": 0.8},
    "Local only": {"method": "local-only", "uplink": "none", "downlink": "none", "ceiling": 0.62, "first": 0.5},
}
MORE_ARMS: dict[str, dict[str, Any]] = {
    "FedProx, mu 0.01": {"ceiling": 0.868},
    "SCAFFOLD": {"up": 4_936_480, "down": 4_936_480, "ceiling": 0.875},
    "FedAdam": {"ceiling": 0.872, "first": 0.3},
    "FedYogi": {"ceiling": 0.871, "first": 0.32},
    "FedPM supermask": {"up": 77_140, "down": 77_140, "ceiling": 0.83, "first": 0.3},
    "Signatures + int8 fragments": {"up": 62_000, "down": 62_000, "align": 14_000, "ceiling": 0.858},
    "Top-k 1%, error feedback": {"up": 37_000, "down": 246_000, "ceiling": 0.85, "first": 0.2},
    "Masked noise, 1 bit": {"up": 77_300, "down": 77_300, "init": 80, "ceiling": 0.846},
    "DiLoCo, 8 local epochs": {"ceiling": 0.876, "rounds": 8},
    "FedAvgM": {"ceiling": 0.874},
}


def build_demo(seeds: int = 3, more: bool = False, **changes: Any) -> list[RunRecord]:
    """Return the runs of the eight arms of the demo (eighteen with `more`), for each of `seeds` seeds."""
    arms = ARMS | (MORE_ARMS if more else {})
    defaults = {"method": "other"}
    return [
        build_run(label, seed=seed, **(({} if label.startswith("FedAvg ") else defaults) | arm | changes))
        for label, arm in arms.items()
        for seed in range(seeds)
    ]


@pytest.fixture
def make_run() -> Callable[..., RunRecord]:
    return build_run


@pytest.fixture
def demo_runs() -> Callable[..., list[RunRecord]]:
    return build_demo


@pytest.fixture
def demo() -> list[RunRecord]:
    return build_demo()
