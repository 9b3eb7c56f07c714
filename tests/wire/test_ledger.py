from onebasin.wire.ledger import Ledger
from onebasin.wire.message import Kind, Section, encode_message

ENVELOPE_BYTES = 13
WEIGHTS = Section(Kind.UPDATE, "weights", bytes(100))
REQUEST = Section(Kind.CONTROL, "do", b"\x01")


def test_requests_are_charged_to_each_client_and_once_to_the_multicast_total() -> None:
    ledger = Ledger()
    request = encode_message(1, 1, 0, [REQUEST, WEIGHTS])
    ledger.charge_orders(1, {0: request, 1: request, 2: request})
    totals = ledger.totals()
    assert totals["down"] == totals["total"] == 3 * len(request)
    assert totals["total_multicast"] == len(request)
    assert totals["control"] == 3 * (ENVELOPE_BYTES + REQUEST.size)


def test_the_multicast_total_counts_each_distinct_section_once() -> None:
    ledger = Ledger()
    initial = Section(Kind.INIT, "weights", bytes(100))
    permutation = Section(Kind.ALIGN, "permutation", b"abc")
    requests = {
        0: encode_message(1, 1, 0, [REQUEST, initial]),
        1: encode_message(1, 1, 0, [REQUEST, WEIGHTS, permutation]),
    }
    ledger.charge_orders(1, requests)
    assert ledger.multicast_down == ENVELOPE_BYTES + REQUEST.size + WEIGHTS.size + permutation.size
    totals = ledger.totals()
    assert (totals["init"], totals["align"]) == (initial.size, permutation.size)
    assert totals["total"] == sum(map(len, requests.values())) == totals["down"] + totals["init"] + totals["align"]


def test_an_unreadable_reply_is_charged_as_control_bytes() -> None:
    ledger = Ledger()
    ledger.charge(1, 0, "up", b"rubbish")
    assert ledger.totals()["total"] == ledger.totals()["control"] == 7


def test_entries_are_drained_once_and_totals_are_restored_from_a_checkpoint() -> None:
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
