"""Runs that are killed at random moments and resumed, against one left alone: ``python -m benchmarks.kills 50``.

A run is started in a process of its own, killed with SIGKILL, resumed, killed again, until it ends by itself; then its
weights, ledger and history must be those of the undisturbed run, bit for bit. Of a pool, the parent is killed, or all.
"""

import json
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import onebasin as ob
from onebasin.federation.run_config import RunConfig

CHAIN = "error-feedback | top-k 0.05 | sign"
PARTS = (("single", False, 10), ("pool", False, 2), ("pool", True, 8))
"""Engines, whether workers are forked instead of spawned (they begin sooner), and tenths of the kills."""

ROUNDS = 40


def config(engine: str) -> RunConfig:
    """Return a run with much to remember: chains both ways, clients that vanish, join late, keep their momenta."""
    return ob.read_config(
        {
            "method": {"name": "stc", "uplink": CHAIN, "downlink": CHAIN},
            "task": {"clients": 6},
            "training": {"momentum": 0.9, "keep_optimizer": True, "epochs": 2},
            "federation": {"rounds": ROUNDS, "cohort": 4, "dropout": 0.1, "late": 1, "join_round": 5},
            "engine": {"kind": engine, "workers": 2 if engine == "pool" else 0},
        }
    )


def live(run: RunConfig, directory: Path, forked: bool) -> int:
    """Start the run, or go on with it, in a process group of its own; return the process's number."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setsid()
        if forked:
            fork = multiprocessing.get_context("fork")
            multiprocessing.get_context = lambda method=None: fork
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        started = (directory / "config.toml").exists()
        ob.run(run, resume=directory) if started else ob.run(run, out=directory)
        status = 0
    finally:
        os._exit(status)


def rounds_of(directory: Path) -> int:
    history = directory / "history.jsonl"
    return history.read_bytes().count(b"\n") if history.exists() else 0


def kill(process: int, directory: Path, seconds: float, from_progress: bool, whole_group: bool) -> bool:
    """Kill a process after so many seconds; whether it was still alive. `RuntimeError` if it failed by itself.

    from_progress: the seconds count from its first round on, not from its start.
    """
    known = rounds_of(directory)
    end = math.inf if from_progress else time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            if status:
                raise RuntimeError(f"a run failed by itself, with status {status}")
            return False
        if end == math.inf and rounds_of(directory) > known:
            end = time.monotonic() + seconds
        time.sleep(0.001)
    (os.killpg if whole_group else os.kill)(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def same(one: Path, other: Path) -> bool:
    """Whether two finished runs have the same weights, ledger and history, but for the clock."""
    equal = all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in ("model.safetensors", "ledger.csv")
    )
    histories = [
        [{**json.loads(line), "seconds": 0} for line in (path / "history.jsonl").read_text().splitlines()]
        for path in (one, other)
    ]
    return equal and histories[0] == histories[1]


def torture(engine: str, forked: bool, kills: int, draw: Random, folder: Path) -> None:
    """Kill runs so many times, and see each to its end."""
    run, whole = config(engine), folder / "whole"
    began = time.monotonic()
    kill(live(run, whole, forked), whole, math.inf, False, False)
    seconds = time.monotonic() - began
    done, runs, halves, at = 0, 0, 0, []
    while done < kills:
        runs += 1
        directory = folder / str(runs)
        while True:
            process = live(run, directory, forked)
            wait = draw.random() * 0.5 * seconds if done < kills else math.inf
            alone = not forked and draw.random() < 0.5  # what is forked holds its siblings' pipes open
            if not kill(process, directory, wait, done < kills and draw.random() < 0.5, not alone):
                break
            done += 1
            at.append(rounds_of(directory))
            halves += any(directory.rglob(".*.partial"))
        assert same(whole, directory), f"{directory} differs from {whole}"
    what = f"{engine}{', forked' * forked}"
    print(f"{what}: {done} kills over {runs} runs of {ROUNDS} rounds ({seconds:.0f} s undisturbed)")
    print(f"after rounds {sorted(at)}")
    print(f"{halves} left a half-written file; every run ended with the undisturbed one's bits", flush=True)


def main(kills: int = 5, seed: int = 0) -> None:
    for engine, forked, tenths in PARTS:
        with tempfile.TemporaryDirectory() as folder:
            torture(engine, forked, max(kills * tenths // 10, 1), Random(seed), Path(folder))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
