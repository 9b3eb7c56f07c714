"""What a round costs over Flower, per node: our payload, the bodies of Flower's messages, and what crosses the wire.

``.venv-flower/bin/python -m benchmarks.flower`` (with the environment active) stands up three nodes with
`deploy/local.sh`, behind a relay that counts. Flower counts its bodies itself (`flwr list`); the rest of the wire is
TLS, HTTP and signatures. Idle: what a node says when there is nothing to do.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
NODES, PORT, RELAY = 3, 18100, 18099
IDLE = 120  # seconds
BASE = ["fedavg", "engine=flower", f"task.clients={NODES}", "method.start=shared-seed"]
SPARSE = "error-feedback | top-k 0.01 | sign"
ARMS = {
    "fp32, 5 rounds of 1 epoch": ["federation.rounds=5"],
    "1% as signs, 5 rounds of 1 epoch": ["federation.rounds=5", f"method.uplink={SPARSE}", f"method.downlink={SPARSE}"],
    "int8, 1 round of 20 epochs": ["federation.rounds=1", "training.epochs=20", "method.uplink=int8"],
}

Bytes = Counter[str]


class Relay:
    """The counting relay, as a process."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.relay", f"127.0.0.1:{RELAY}", f"127.0.0.1:{PORT}"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        time.sleep(1)

    def read(self) -> Bytes:
        """Return the sums so far."""
        self.process.send_signal(signal.SIGUSR1)
        assert self.process.stdout is not None
        said = json.loads(self.process.stdout.readline())
        return Counter({direction: said.get(direction, 0) for direction in ("up", "down")})


def payload(run: Path) -> Bytes:
    """Return what the ledger counted."""
    sums: Bytes = Counter()
    with (run / "ledger.csv").open() as file:
        for entry in csv.DictReader(file):
            sums[entry["direction"]] += int(entry["bytes"])
    return sums


def bodies(environment: dict[str, str]) -> Bytes:
    """Return what Flower counted in its last run."""
    command = [sys.executable, "-m", "flwr.cli.app", "list", "--limit", "1", "--format", "json"]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    traffic: dict[str, int] = json.loads(said)["runs"][0]["network-traffic"]
    return Counter({"up": traffic["inbound-bytes"], "down": traffic["outbound-bytes"]})


def main() -> None:
    table = Table("run", "payload up", "down", "messages up", "down", "wire up", "down", title="kB per node and round")
    seconds = Table("run", "seconds", title="the first and all rounds")
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "PORT": str(PORT),
            "SUPERLINK": f"127.0.0.1:{RELAY}",
            "FLWR_HOME": f"{folder}/federation/home",
            "OMP_NUM_THREADS": "1",
        }
        relay = Relay()
        local = ["sh", str(ROOT / "deploy" / "local.sh")]
        try:
            subprocess.run([*local, "up", f"{folder}/federation", str(NODES)], env=environment, check=True)
            time.sleep(30)
            before = relay.read()
            time.sleep(IDLE)
            idle = relay.read() - before
            print(idle, flush=True)
            for number, (name, settings) in enumerate(ARMS.items()):
                out = Path(folder) / str(number)
                before = relay.read()
                run = [sys.executable, "-m", "onebasin", "run", *BASE, *settings, "--out", str(out)]
                subprocess.run(run, env=environment, check=True, stdout=subprocess.DEVNULL)
                wire = relay.read() - before
                lines = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
                per = NODES * len(lines) * 1000
                counted = (payload(out), bodies(environment), wire)
                table.add_row(name, *(f"{each[d] / per:.2f}" for each in counted for d in ("up", "down")))
                print(name, *counted, lines[-1]["seconds"], flush=True)
                seconds.add_row(name, f"{lines[0]['seconds']:.0f}, {lines[-1]['seconds']:.0f}")
        finally:
            subprocess.run([*local, "down", f"{folder}/federation"], env=environment, check=False)
            relay.process.terminate()
    minute = NODES * IDLE / 60 * 1000
    console = Console(width=120)
    console.print(table, seconds)
    console.print(f"an idle node: {idle['up'] / minute:.1f} kB up, {idle['down'] / minute:.1f} kB down a minute")


if __name__ == "__main__":
    main()
