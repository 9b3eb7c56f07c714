"""The ledger: the bytes of all messages, by round, client, direction and kind. It counts bytes and never estimates."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from onebasin.wire.error import WireError
from onebasin.wire.message import Kind, bytes_by_kind, sections_of

Direction = Literal["up", "down"]


@dataclass(frozen=True)
class LedgerEntry:
    """The bytes of one kind in one message."""

    round: int
    client: int
    direction: Direction
    kind: Kind
    bytes: int


@dataclass(frozen=True)
class Decoded:
    """How many exchanges were decoded to exactly the sender's values (`equal`), and how many were not (`different`).

    equal: replies that the server decoded to the values that the client encoded.
    different: replies that it decoded to other values, and requests that a client decoded to other values.
    """

    equal: int = 0
    different: int = 0

    def __add__(self, other: "Decoded") -> "Decoded":
        return Decoded(self.equal + other.equal, self.different + other.different)


@dataclass
class Ledger:
    """The totals of a run, in bytes, and the entries since the last call of `drain`.

    Unicast totals charge each client with its own request. The multicast total charges all requests of an exchange as
    one message that contains each distinct section once; replies cost the same in both. decoded: of all exchanges.
    """

    by_kind: dict[Direction, dict[Kind, int]] = field(
        default_factory=lambda: {"up": dict.fromkeys(Kind, 0), "down": dict.fromkeys(Kind, 0)}
    )
    multicast_down: int = 0
    decoded: Decoded = field(default_factory=Decoded)
    _entries: list[LedgerEntry] = field(default_factory=list)

    def charge(self, round: int, client: int, direction: Direction, message: bytes) -> None:
        """Charge one message to a client. An unreadable message is charged as `Kind.CONTROL`."""
        self._charge(round, client, direction, bytes_by_kind(message))

    def charge_orders(self, round: int, requests: Mapping[int, bytes]) -> None:
        """Charge the requests of one exchange, each to its client, and all as one message to the multicast total."""
        distinct: dict[tuple[str, bytes], int] = {}
        envelope = unreadable = 0
        for request in set(requests.values()):
            try:
                sections = sections_of(request)
            except WireError:
                unreadable += len(request)
            else:
                distinct.update({(s.name, s.body): s.size for s in sections})
                envelope = len(request) - sum(section.size for section in sections)
        self.multicast_down += envelope + sum(distinct.values()) + unreadable
        costs = {request: bytes_by_kind(request) for request in set(requests.values())}
        for client, request in requests.items():
            self._charge(round, client, "down", costs[request])

    def _charge(self, round: int, client: int, direction: Direction, costs: Mapping[Kind, int]) -> None:
        for kind, size in costs.items():
            if size:
                self.by_kind[direction][kind] += size
                self._entries.append(LedgerEntry(round, client, direction, kind, size))

    def drain(self) -> Iterator[LedgerEntry]:
        """Yield the entries since the last call and delete them here. The run directory keeps them in ledger.csv."""
        entries, self._entries = self._entries, []
        yield from entries

    def totals(self) -> dict[str, int]:
        """Return the totals in bytes.

        up, down: update and control bytes of one direction. init, align: bytes of that kind in both directions.
        control: the control bytes, a part of up and down. total: up + down + init + align, unicast.
        total_multicast: all bytes of the uplink plus `multicast_down`.
        """
        up, down = self.by_kind["up"], self.by_kind["down"]
        uplink_total, downlink_total = sum(up.values()), sum(down.values())
        both = {kind: up[kind] + down[kind] for kind in Kind}
        return {
            "up": up[Kind.UPDATE] + up[Kind.CONTROL],
            "down": down[Kind.UPDATE] + down[Kind.CONTROL],
            "init": both[Kind.INIT],
            "align": both[Kind.ALIGN],
            "control": both[Kind.CONTROL],
            "total": uplink_total + downlink_total,
            "total_multicast": uplink_total + self.multicast_down,
        }

    def to_facts(self) -> dict[str, Any]:
        """Return the totals as JSON values, for a checkpoint. Entries that were not drained are left out."""
        by_kind = {
            direction: {kind.name.lower(): size for kind, size in sizes.items()}
            for direction, sizes in self.by_kind.items()
        }
        return {"by_kind": by_kind, "multicast_down": self.multicast_down, "decoded": asdict(self.decoded)}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Ledger":
        """Return a ledger with the totals that `to_facts` returned."""
        ledger = cls(multicast_down=facts["multicast_down"], decoded=Decoded(**facts["decoded"]))
        for direction in ledger.by_kind:
            ledger.by_kind[direction] = {kind: facts["by_kind"][direction][kind.name.lower()] for kind in Kind}
        return ledger
