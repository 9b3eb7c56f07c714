"""Clients run in a pool of worker processes with one torch thread each; each worker keeps its clients' states."""

from __future__ import annotations

import multiprocessing
import os
import struct
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from pydantic import Field

from onebasin.core.clients import ClientId, Failure, Reply
from onebasin.federation.engine import EngineError, EngineSettings
from onebasin.federation.engines.single import InProcess

_HEAD = struct.Struct("<cI")
_REQUEST, _SAVE, _RESTORE, _READ, _END = b"o", b"s", b"r", b"g", b"."
_REPLY, _FAILURE, _BROKEN = b"a", b"f", b"x"

if TYPE_CHECKING:
    from onebasin.federation.run_config import RunConfig
    from onebasin.learning.task import Task


class PoolOfWorkers(EngineSettings):
    """Clients run in worker processes of this machine.

    workers: number of processes; 0 for one per core.
    """

    kind: Literal["pool"] = "pool"
    workers: Annotated[int, Field(ge=0)] = 0

    def open(self, config: RunConfig, task: Task, link: Any) -> Pool:
        sizes = {client: len(part) for client, part in enumerate(task.parts)}
        return Pool(config, sizes, self.workers)


class Pool:
    """Distributes clients over worker processes, balanced by their numbers of examples; a client never changes worker.

    Parent and workers exchange frames: a tag, a client's number, a payload.
    """

    def __init__(self, config: RunConfig, sizes: Mapping[ClientId, int], workers: int = 0) -> None:
        """Start the workers. sizes: the number of examples of each client. workers: as in `PoolOfWorkers`."""
        count = min(workers or os.cpu_count() or 1, max(len(sizes), 1))
        self._worker_of = assign(sizes, count)
        context = multiprocessing.get_context("spawn")
        self._connections: list[Connection] = []
        self._processes = []
        for _ in range(count):
            parent_end, worker_end = context.Pipe()
            process = context.Process(target=_run_worker, args=(worker_end, config), daemon=True)
            process.start()
            worker_end.close()
            self._connections.append(parent_end)
            self._processes.append(process)

    def exchange(self, requests: Mapping[ClientId, bytes]) -> Iterator[Reply]:
        waiting: list[list[ClientId]] = [[] for _ in self._connections]
        for client in requests:
            waiting[self._worker_of[client]].append(client)
        # One request at a time per worker: if its pipe were full of requests, parent and worker could block each other,
        # both of them writing.
        for worker, queue in enumerate(waiting):
            if queue:
                self._send(worker, _REQUEST, queue[0], requests[queue[0]])
        while any(waiting):
            busy = [self._connections[worker] for worker, queue in enumerate(waiting) if queue]
            for connection in wait(busy):
                worker = self._connections.index(connection)  # type: ignore[arg-type]
                tag, client, payload = self._receive(worker)
                waiting[worker].pop(0)
                if waiting[worker]:
                    following = waiting[worker][0]
                    self._send(worker, _REQUEST, following, requests[following])
                yield client, payload if tag == _REPLY else Failure(payload.decode())

    def save(self, folder: Path, stamp: str) -> dict[ClientId, str]:
        written: dict[ClientId, str] = {}
        for worker in range(len(self._connections)):
            self._send(worker, _SAVE, 0, f"{stamp}\n{folder}".encode())
        for worker in range(len(self._connections)):
            while (frame := self._receive(worker))[0] != _END:
                written[frame[1]] = frame[2].decode()
        return written

    def restore(self, folder: Path, files: Mapping[ClientId, str]) -> None:
        for worker in range(len(self._connections)):
            own = {client: name for client, name in files.items() if self._worker_of[client] == worker}
            lines = [str(folder), *(f"{client} {name}" for client, name in own.items())]
            self._send(worker, _RESTORE, 0, "\n".join(lines).encode())
            self._receive(worker)

    def read_state(self, client: ClientId) -> bytes:
        worker = self._worker_of[client]
        self._send(worker, _READ, client, b"")
        return self._receive(worker)[2]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.terminate()
            process.join()

    def _send(self, worker: int, tag: bytes, client: ClientId, payload: bytes) -> None:
        try:
            self._connections[worker].send_bytes(_HEAD.pack(tag, client) + payload)
        except OSError:
            self._fail(worker)

    def _receive(self, worker: int) -> tuple[bytes, ClientId, bytes]:
        try:
            frame = self._connections[worker].recv_bytes()
        except (EOFError, OSError):
            self._fail(worker)
        tag, client = _HEAD.unpack_from(frame)
        if tag == _BROKEN:
            raise EngineError(f"worker {worker} of the pool failed: {frame[_HEAD.size :].decode()}")
        return tag, client, frame[_HEAD.size :]

    def _fail(self, worker: int) -> NoReturn:
        process = self._processes[worker]
        process.join(timeout=1)
        raise EngineError(f"worker {worker} of the pool died (exit code {process.exitcode})") from None


def assign(sizes: Mapping[ClientId, int], workers: int) -> dict[ClientId, int]:
    """Return the worker of each client: in descending order of size, each goes to the worker with the smallest load."""
    loads = [0] * workers
    worker_of = {}
    for client in sorted(sizes, key=lambda c: (-sizes[c], c)):
        worker_of[client] = loads.index(min(loads))
        loads[worker_of[client]] += max(sizes[client], 1)
    return worker_of


def _run_worker(connection: Connection, config: RunConfig) -> None:
    """Handle the parent's frames until the parent ends."""
    from onebasin.federation.client.client import Client
    from onebasin.learning.load_task import load_task

    try:
        engine = InProcess(Client(config, load_task(config)))
        while True:
            frame = connection.recv_bytes()
            tag, client = _HEAD.unpack_from(frame)
            _handle(connection, engine, tag, client, frame[_HEAD.size :])
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return
    except Exception as error:
        connection.send_bytes(_HEAD.pack(_BROKEN, 0) + f"{type(error).__name__}: {error}".encode())


def _handle(connection: Connection, engine: InProcess, tag: bytes, client: ClientId, payload: bytes) -> None:
    """Do what one frame of the parent asks, and send the result."""
    if tag == _REQUEST:
        reply = engine.answer(client, payload)
        if isinstance(reply, Failure):
            connection.send_bytes(_HEAD.pack(_FAILURE, client) + reply.reason.encode())
        else:
            connection.send_bytes(_HEAD.pack(_REPLY, client) + reply)
    elif tag == _SAVE:
        stamp, folder = payload.decode().split("\n", 1)
        for number, name in engine.save(Path(folder), stamp).items():
            connection.send_bytes(_HEAD.pack(_REPLY, number) + name.encode())
        connection.send_bytes(_HEAD.pack(_END, 0))
    elif tag == _RESTORE:
        folder, *lines = payload.decode().split("\n")
        pairs = (line.split(" ", 1) for line in lines)
        engine.restore(Path(folder), {int(number): name for number, name in pairs})
        connection.send_bytes(_HEAD.pack(_END, 0))
    elif tag == _READ:
        connection.send_bytes(_HEAD.pack(_REPLY, client) + engine.read_state(client))
