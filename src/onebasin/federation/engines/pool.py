"""Clients run in a pool of worker processes with one torch thread each; a client's state stays in its worker."""

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
_ORDER, _SAVE, _RESTORE, _READ, _END = b"o", b"s", b"r", b"g", b"."
_REPLY, _FAILURE, _BROKEN = b"a", b"f", b"x"


if TYPE_CHECKING:
    from onebasin.federation.run_config import RunConfig
    from onebasin.learning.task import Task


class PoolOfWorkers(EngineSettings):
    """Clients run in worker processes of this machine.

    workers: how many; 0 for one a core.
    """

    kind: Literal["pool"] = "pool"
    workers: Annotated[int, Field(ge=0)] = 0

    def open(self, config: RunConfig, task: Task, link: Any) -> Pool:
        sizes = {client: len(part) for client, part in enumerate(task.parts)}
        return Pool(config, sizes, self.workers)


class Pool:
    """Spreads clients over worker processes, each client always to the same one, balanced by their examples.

    Parent and workers exchange framed bytes: a tag, a client's number, a payload.
    """

    def __init__(self, config: RunConfig, sizes: Mapping[ClientId, int], workers: int = 0) -> None:
        count = min(workers or os.cpu_count() or 1, max(len(sizes), 1))
        self._home = assign(sizes, count)
        context = multiprocessing.get_context("spawn")
        self._links: list[Connection] = []
        self._processes = []
        for _ in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, config), daemon=True)
            process.start()
            there.close()
            self._links.append(here)
            self._processes.append(process)

    def exchange(self, orders: Mapping[ClientId, bytes]) -> Iterator[Reply]:
        waiting: list[list[ClientId]] = [[] for _ in self._links]
        for client in orders:
            waiting[self._home[client]].append(client)
        # One order at a time: a worker that has its pipe full of orders could not be read while it writes a reply.
        for worker, queue in enumerate(waiting):
            if queue:
                self._send(worker, _ORDER, queue[0], orders[queue[0]])
        while any(waiting):
            busy = [self._links[worker] for worker, queue in enumerate(waiting) if queue]
            for link in wait(busy):
                worker = self._links.index(link)  # type: ignore[arg-type]
                tag, client, payload = self._receive(worker)
                waiting[worker].pop(0)
                if waiting[worker]:
                    following = waiting[worker][0]
                    self._send(worker, _ORDER, following, orders[following])
                yield client, payload if tag == _REPLY else Failure(payload.decode())

    def save(self, folder: Path, stamp: str) -> dict[ClientId, str]:
        written: dict[ClientId, str] = {}
        for worker in range(len(self._links)):
            self._send(worker, _SAVE, 0, f"{stamp}\n{folder}".encode())
        for worker in range(len(self._links)):
            while (answer := self._receive(worker))[0] != _END:
                written[answer[1]] = answer[2].decode()
        return written

    def restore(self, folder: Path, files: Mapping[ClientId, str]) -> None:
        for worker in range(len(self._links)):
            own = {client: name for client, name in files.items() if self._home[client] == worker}
            lines = [str(folder), *(f"{client} {name}" for client, name in own.items())]
            self._send(worker, _RESTORE, 0, "\n".join(lines).encode())
            self._receive(worker)

    def read_state(self, client: ClientId) -> bytes:
        worker = self._home[client]
        self._send(worker, _READ, client, b"")
        return self._receive(worker)[2]

    def close(self) -> None:
        for link in self._links:
            link.close()
        for process in self._processes:
            process.terminate()
            process.join()

    def _send(self, worker: int, tag: bytes, client: ClientId, payload: bytes) -> None:
        try:
            self._links[worker].send_bytes(_HEAD.pack(tag, client) + payload)
        except OSError:
            self._fail(worker)

    def _receive(self, worker: int) -> tuple[bytes, ClientId, bytes]:
        try:
            frame = self._links[worker].recv_bytes()
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
    """Return each client's worker: the largest first, each to the worker that has the least."""
    loads = [0] * workers
    home = {}
    for client in sorted(sizes, key=lambda c: (-sizes[c], c)):
        home[client] = loads.index(min(loads))
        loads[home[client]] += max(sizes[client], 1)
    return home


def _work(link: Connection, config: RunConfig) -> None:
    """A worker's life: answer until the parent is gone."""
    from onebasin.federation.client.client import Client
    from onebasin.learning.load_task import load_task

    try:
        engine = InProcess(Client(config, load_task(config)))
        while True:
            frame = link.recv_bytes()
            tag, client = _HEAD.unpack_from(frame)
            _serve(link, engine, tag, client, frame[_HEAD.size :])
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return
    except Exception as error:
        link.send_bytes(_HEAD.pack(_BROKEN, 0) + f"{type(error).__name__}: {error}".encode())


def _serve(link: Connection, engine: InProcess, tag: bytes, client: ClientId, payload: bytes) -> None:
    if tag == _ORDER:
        answer = engine.answer(client, payload)
        if isinstance(answer, Failure):
            link.send_bytes(_HEAD.pack(_FAILURE, client) + answer.reason.encode())
        else:
            link.send_bytes(_HEAD.pack(_REPLY, client) + answer)
    elif tag == _SAVE:
        stamp, folder = payload.decode().split("\n", 1)
        for number, name in engine.save(Path(folder), stamp).items():
            link.send_bytes(_HEAD.pack(_REPLY, number) + name.encode())
        link.send_bytes(_HEAD.pack(_END, 0))
    elif tag == _RESTORE:
        folder, *lines = payload.decode().split("\n")
        pairs = (line.split(" ", 1) for line in lines)
        engine.restore(Path(folder), {int(number): name for number, name in pairs})
        link.send_bytes(_HEAD.pack(_END, 0))
    elif tag == _READ:
        link.send_bytes(_HEAD.pack(_REPLY, client) + engine.read_state(client))
