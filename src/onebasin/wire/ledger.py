"""The ledger: what crossed, by round, client, direction and kind. It counts messages and estimates nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from onebasin.wire.error import WireError
from onebasin.wire.message import Kind, bytes_by_kind, sections_of

Direction = Literal["up", "down"]


@dataclass(frozen=True)
class LedgerEntry:
    """Bytes of one kind that crossed in one message."""

    round: int
    client: int
    direction: Direction
    kind: Kind
    bytes: int


@dataclass(frozen=True)
class Decoded:
    """How many replies were decoded, to the very values that their clients coded (`equal`) or to others.

    A client that decodes its order to others counts as one that differs, too.
    """

    equal: int = 0
    different: int = 0

    def __add__(self, more: "Decoded") -> "Decoded":
        return Decoded(self.equal + more.equal, self.different + more.different)


@dataclass
class Ledger:
    """Totals since the run began, and the entries of the rounds that were not yet taken by `drain`.

    Unicast: every client pays for its own order. Multicast: the orders of one exchange travel together, as one
    message that carries every distinct section once; replies cost the same either way. decoded: of all replies.
    """

    by_kind: dict[Direction, dict[Kind, int]] = field(
        default_factory=lambda: {"up": dict.fromkeys(Kind, 0), "down": dict.fromkeys(Kind, 0)}
    )
    multicast_down: int = 0
    decoded: Decoded = field(default_factory=Decoded)
    _entries: list[LedgerEntry] = field(default_factory=list)

    def charge(self, round: int, client: int, direction: Direction, message: bytes) -> None:
        """Charge one message to `client`."""
        self._charge(round, client, direction, bytes_by_kind(message))

    def charge_orders(self, round: int, orders: Mapping[int, bytes]) -> None:
        """Charge one exchange's orders, each to its client, and once to the multicast total."""
        distinct: dict[tuple[str, bytes], int] = {}
        envelope = unreadable = 0
        for order in set(orders.values()):
            try:
                sections = sections_of(order)
            except WireError:
                unreadable += len(order)
            else:
                distinct.update({(s.name, s.body): s.size for s in sections})
                envelope = len(order) - sum(section.size for section in sections)
        self.multicast_down += envelope + sum(distinct.values()) + unreadable
        costs = {order: bytes_by_kind(order) for order in set(orders.values())}
        for client, order in orders.items():
            self._charge(round, client, "down", costs[order])

    def _charge(self, round: int, client: int, direction: Direction, costs: Mapping[Kind, int]) -> None:
        for kind, size in costs.items():
            if size:
                self.by_kind[direction][kind] += size
                self._entries.append(LedgerEntry(round, client, direction, kind, size))

    def drain(self) -> Iterator[LedgerEntry]:
        """Yield and forget the entries, which are kept elsewhere from then on (the run directory's ledger.csv)."""
        entries, self._entries = self._entries, []
        yield from entries

    def totals(self) -> dict[str, int]:
        """Return up, down, init, align, their sum total (unicast), control (part of up and down), total_multicast."""
        up, down = self.by_kind["up"], self.by_kind["down"]
        sent, received = sum(up.values()), sum(down.values())
        shared = {kind: up[kind] + down[kind] for kind in Kind}
        return {
            "up": up[Kind.UPDATE] + up[Kind.CONTROL],
            "down": down[Kind.UPDATE] + down[Kind.CONTROL],
            "init": shared[Kind.INIT],
            "align": shared[Kind.ALIGN],
            "control": shared[Kind.CONTROL],
            "total": sent + received,
            "total_multicast": sent + self.multicast_down,
        }

    def to_facts(self) -> dict[str, Any]:
        """Return the totals as JSON values, for a checkpoint."""
        by_kind = {way: {k.name.lower(): n for k, n in kinds.items()} for way, kinds in self.by_kind.items()}
        return {"by_kind": by_kind, "multicast_down": self.multicast_down, "decoded": asdict(self.decoded)}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Ledger":
        """Return the ledger that `to_facts` described."""
        ledger = cls(multicast_down=facts["multicast_down"], decoded=Decoded(**facts["decoded"]))
        for way in ledger.by_kind:
            ledger.by_kind[way] = {kind: facts["by_kind"][way][kind.name.lower()] for kind in Kind}
        return ledger
