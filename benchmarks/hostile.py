"""Mutated messages through both doors: a server takes replies, clients take orders. Nothing breaks, changes or grows.

``python -m benchmarks.hostile 1000000`` sends so many. The corpus is every message of real runs of many methods and
codecs, each with the state of its receiver at that moment. A message is either refused with a reason, and its receiver
is as if none had come, or it is as good as one that an honest sender could have sent, and the round goes on.
"""

import copy
import resource
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from time import perf_counter

import torch

from benchmarks.mutations import mutate
from benchmarks.tiny import make
from onebasin.core.clients import Failure, Reply
from onebasin.core.state import State
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.round_loop import in_order
from onebasin.federation.server.server import Server
from onebasin.wire.error import WireError

LOCAL = "method.start=local"
RUNS: Sequence[tuple[str, ...]] = (
    ("fedavg",),
    ("fedavg", "method.uplink=int8", "method.downlink=fp16", "task.model.norm=false"),
    ("scaffold", "method.uplink=fp16"),
    ("stc", "method.uplink=error-feedback | top-k 0.3 | sign", "method.downlink=error-feedback | top-k 0.3 | sign"),
    ("fedavg", "method.uplink=small 4 | top-k 0.5 per=tensor | uniform 4", "method.downlink=ternary"),
    ("fedavg", "method.uplink=low-rank 1 | qsgd 8", "method.downlink=sign scale=tensor", "task.model.norm=false"),
    ("dgc", "method.uplink=momentum-correction | error-feedback | fragment 2 | hadamard | eden 1"),
    ("fedavg", "method.uplink=random-k 0.5 | fp16", "method.downlink=fragment 2 by=tensor | fp32"),
    ("fedpm", "task.model.norm=false"),
    ("fedpm", "method.downlink=fp32"),
    ("adopt-one",),
    ("local-only",),
    ("fedavg", LOCAL, "method.frame=signatures", "method.alignment.features=8", "method.combine=least-squares",
     "method.probes={kind='sketch', count=8, rank=2}"),
    ("fedavg", LOCAL, "method.frame=weights", "method.repair=repair", "method.repair_targets=clients",
     "method.probes={kind='sketch', count=8, rank=2}", "training.keep_optimizer=true"),
    ("fedavg", LOCAL, "method.frame=activations", "method.alignment.features=8", "method.repair=rescale",
     "method.probes={kind='noise', count=8}"),
    ("bicompfl", "task.model.norm=false"),
    ("stc", "method.downlink=relay", "method.uplink=error-feedback | top-k 0.3 | sign"),
    ("adopt-one", "method.models=seeded", "method.uplink=top-k 0.5 | fp16", "method.downlink=top-k 0.5 | fp16"),
    ("fedavg", "method.trains=sent", "method.uplink=random-k 0.5 shared=true | uniform 4"),
    ("fedavg", "method.combine=median", "method.norm_bound.limit=5.0"),
    ("fedavg", "method.combine=trimmed-mean", "method.combine.trim=0.3", "method.uplink=hadamard | eden 2"),
)  # fmt: skip


@dataclass(frozen=True)
class ServersDoor:
    """A server that waits for replies, and those that honest clients gave."""

    server: Server
    replies: dict[int, bytes]

    def fresh(self) -> Server:
        """The server at that moment, to be changed at will; tensors are never changed in place (`digest`)."""
        server = copy.copy(self.server)
        server.restore(self.server.save())
        return server


@dataclass(frozen=True)
class ClientsDoor:
    """A client that waits for an order, and the order that it got."""

    engine: InProcess
    client: int
    state: State
    order: bytes


@dataclass
class Campaign:
    """Doors, and what came to them."""

    servers: list[ServersDoor] = field(default_factory=list)
    clients: list[ClientsDoor] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    def collect(self, *run: str) -> None:
        """Play a run, and keep what its messages found."""
        config, task = make(*run)
        server, engine = Server(config, task), InProcess(Client(config, task))
        for round in range(1, config.federation.rounds + 1):
            orders = server.open(round)
            while orders:
                for client, order in orders.items():
                    self.clients.append(ClientsDoor(engine, client, engine.state_of(client), order))
                replies = list(in_order(orders, engine.exchange(orders)))
                answered = {client: reply for client, reply in replies if isinstance(reply, bytes)}
                assert len(answered) == len(orders), replies
                door = ServersDoor(server, answered)
                self.servers.append(ServersDoor(door.fresh(), answered))
                orders = server.close(replies)

    def corpus(self) -> list[bytes]:
        replies = [reply for door in self.servers for reply in door.replies.values()]
        return sorted({*replies, *(door.order for door in self.clients)})

    def play(self, count: int, seed: int = 0) -> None:
        """Send so many mutated messages. `AssertionError`, or whatever the code raises, where something is wrong."""
        draw, corpus = Random(seed), self.corpus()
        for number in range(count):
            began = perf_counter()
            if draw.random() < 0.6:
                self._to_server(draw.choice(self.servers), corpus, draw)
            else:
                self._to_client(draw.choice(self.clients), corpus, draw)
            self.slowest = max(self.slowest, perf_counter() - began)
            if number % 1000 == 0:
                signal.alarm(120)  # nothing hangs
        signal.alarm(0)

    def _to_server(self, door: ServersDoor, corpus: Sequence[bytes], draw: Random) -> None:
        client = draw.choice(list(door.replies))
        way, message = mutate(door.replies[client], corpus, draw)
        server, alone = door.fresh(), draw.random() < 0.9
        others: list[Reply] = [] if alone else [(c, r) for c, r in door.replies.items() if c != client]
        server.close(sorted([(client, message), *others], key=lambda reply: reply[0]))
        refused = server.result.failures.get(client, "").startswith("WireError")
        self.outcomes[f"server: {way}: {'refused' if refused else 'taken'}"] += 1
        if refused:  # as if it had not come
            expected = door.server if alone else door.fresh()
            if not alone:
                expected.close(sorted([(client, Failure("gone")), *others], key=lambda reply: reply[0]))
            require_same(server.state, expected.state)
        else:
            assert client in server.result.reports or server.result.failures

    def _to_client(self, door: ClientsDoor, corpus: Sequence[bytes], draw: Random) -> None:
        way, message = mutate(door.order, corpus, draw)
        door.engine._states = {door.client: door.state}
        if draw.random() < 0.2:  # all the way: it trains and answers
            refused = isinstance(door.engine.answer(door.client, message), Failure)
        else:
            try:
                door.engine._client.begin(door.client, door.state, message)
                refused = False
            except WireError:
                refused = True
        self.outcomes[f"client: {way}: {'refused' if refused else 'taken'}"] += 1
        if refused:
            require_same(door.engine.state_of(door.client), door.state)


def require_same(one: State, other: State) -> None:
    """`AssertionError` unless two states are equal, bit for bit."""
    assert one.facts == other.facts, (one.facts, other.facts)
    assert one.slots.keys() == other.slots.keys()
    for slot, tensors in one.slots.items():
        assert tensors.keys() == other.slots[slot].keys()
        for name, value in tensors.items():
            same = other.slots[slot][name]
            assert value is same or torch.equal(value, same), f"{slot}/{name} has changed"


def digest(campaign: Campaign) -> int:
    """A number that changes if any state of the corpus was changed in place."""
    states = [door.server.state for door in campaign.servers] + [door.state for door in campaign.clients]
    return hash(tuple(state.to_bytes() for state in states))


def main(count: int = 20_000, seed: int = 0) -> None:
    campaign = Campaign()
    for run in RUNS:
        campaign.collect(*run)
    corpus = campaign.corpus()
    sizes = [len(message) for message in corpus]
    print(f"corpus: {len(corpus)} messages of {len(RUNS)} runs, {min(sizes)} to {max(sizes)} bytes; seed {seed}")
    campaign.play(min(count, 5_000), seed + 1)  # caches fill before memory is looked at
    campaign.outcomes.clear()
    campaign.slowest = 0.0
    before, whole = resident(), digest(campaign)
    room = address_space() + (256 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    began = perf_counter()
    for part in range(0, count, 50_000):
        campaign.play(min(50_000, count - part), seed + 2 + part)
        done = min(part + 50_000, count)
        rate = done / (perf_counter() - began)
        print(f"{done:,} sent, {rate:,.0f} a second, {resident() / 1e6:.1f} MB resident", flush=True)
    assert digest(campaign) == whole, "a state was changed in place"
    print(f"memory: {before / 1e6:.1f} MB before, {resident() / 1e6:.1f} MB after; at most 256 MiB more were allowed")
    print(f"slowest message: {1000 * campaign.slowest:.0f} ms")
    for what, times in sorted(campaign.outcomes.items()):
        print(f"{times:>9,}  {what}")


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
