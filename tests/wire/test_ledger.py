from onebasin.wire.ledger import Ledger
from onebasin.wire.message import Kind, Section, encode_message

ENVELOPE_BYTES = 13
WEIGHTS = Section(Kind.UPDATE, "weights", bytes(100))
DO = Section(Kind.CONTROL, "do", b"\x01")


def test_orders_are_charged_to_each_client_and_once_for_multicast() -> None:
    ledger = Ledger()
    order = encode_message(1, 1, 0, [DO, WEIGHTS])
    ledger.charge_orders(1, {0: order, 1: order, 2: order})
    totals = ledger.totals()
    assert totals["down"] == totals["total"] == 3 * len(order)
    assert totals["total_multicast"] == len(order)
    assert totals["control"] == 3 * (ENVELOPE_BYTES + DO.size)


def test_multicast_carries_each_distinct_section_once() -> None:
    ledger = Ledger()
    first = Section(Kind.INIT, "weights", bytes(100))
    own = Section(Kind.ALIGN, "permutation", b"abc")
    orders = {0: encode_message(1, 1, 0, [DO, first]), 1: encode_message(1, 1, 0, [DO, WEIGHTS, own])}
    ledger.charge_orders(1, orders)
    assert ledger.multicast_down == ENVELOPE_BYTES + DO.size + WEIGHTS.size + own.size
    totals = ledger.totals()
    assert (totals["init"], totals["align"]) == (first.size, own.size)
    assert totals["total"] == sum(map(len, orders.values())) == totals["down"] + totals["init"] + totals["align"]


def test_an_unreadable_reply_is_charged_whole() -> None:
    ledger = Ledger()
    ledger.charge(1, 0, "up", b"rubbish")
    assert ledger.totals()["total"] == ledger.totals()["control"] == 7


def test_entries_are_handed_over_once_and_totals_survive_a_checkpoint() -> None:
    ledger = Ledger()
    ledger.charge(2, 5, "up", encode_message(1, 2, 5, [WEIGHTS]))
    entries = list(ledger.drain())
    assert [(e.round, e.client, e.direction, e.kind) for e in entries] == [
        (2, 5, "up", Kind.UPDATE),
        (2, 5, "up", Kind.CONTROL),
    ]
    assert sum(e.bytes for e in entries) == ENVELOPE_BYTES + WEIGHTS.size
    assert list(ledger.drain()) == []
    assert Ledger.from_facts(ledger.to_facts()).totals() == ledger.totals()
