"""Play compositions and write what they left: bytes by kind, and digests of messages and weights, after each round.

Run as ``python -m tests.golden.record FOLDER NAME...`` in a process of its own, in whose environment `FIXED` makes the
arithmetic the same on every x86 machine.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tests.golden.compositions import WEIGHTS, every

import onebasin as ob
from onebasin.core.clients import Reply
from onebasin.core.layout import Tensors
from onebasin.core.state import State
from onebasin.federation.engines.single import InProcess
from onebasin.results.run_directory import RunDirectory
from onebasin.wire.ledger import Ledger

FIXED = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}
"""What the environment must have before torch is imported."""


def trace(method: str, changes: list[str], directory: Path) -> dict[str, Any]:
    """Return the trace of one run: its identity, and what it left after each round."""
    rounds: list[dict[str, Any]] = []
    messages = blake2b(digest_size=16)
    exchange, commit = InProcess.exchange, RunDirectory.commit

    def listening(engine: InProcess, orders: Mapping[int, bytes]) -> Iterator[Reply]:
        for client in sorted(orders):
            messages.update(orders[client])
        for client, reply in exchange(engine, orders):
            messages.update(reply if isinstance(reply, bytes) else reply.reason.encode())
            yield client, reply

    def committing(
        home: RunDirectory, record: dict[str, Any], ledger: Ledger, server: State, engine: InProcess
    ) -> None:
        own = [State.from_bytes(engine.read_state(client)).slots.get("weights", {}) for client in range(5)]
        rounds.append(
            {
                "accuracy": record["accuracy"],
                "replies": record["replies"],
                "failures": record["failures"],
                "bytes": {
                    f"{way} {kind.name.lower()}": count
                    for way, kinds in ledger.by_kind.items()
                    for kind, count in kinds.items()
                },
                "multicast": record["bytes"]["total_multicast"],
                "messages": messages.hexdigest(),
                "weights": digest(server.slots.get("weights", {}), server.slots.get("buffers", {})),
                "own weights": digest(*own),
            }
        )
        commit(home, record, ledger, server, engine)

    with patch.object(InProcess, "exchange", listening), patch.object(RunDirectory, "commit", committing):
        config = ob.read_config(method, changes)
        run = ob.run(config, out=directory)
    return {"identity": config.identity(), "method": config.method.model_dump(mode="json"), "rounds": rounds} | (
        {} if run.model is None else {"model": digest(dict(run.model.state_dict()))}
    )


def digest(*groups: Tensors) -> str:
    """Return 32 hex digits that follow from names, shapes, types and bits, in order."""
    found = blake2b(digest_size=16)
    for tensors in groups:
        for name, tensor in tensors.items():
            found.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
            found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def main(folder: Path, names: list[str]) -> None:
    """Write the traces of so many compositions, a file each."""
    with tempfile.TemporaryDirectory() as work:
        backbone = Path(work) / "backbone"
        for name in names:
            method, changes = every()[name]
            if any(WEIGHTS in change for change in changes) and not backbone.exists():
                ob.run("fedavg", every()["fedavg"][1], out=backbone)
            changes = [change.replace(WEIGHTS, str(backbone)) for change in changes]
            found = trace(method, changes, Path(work) / name)
            (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
