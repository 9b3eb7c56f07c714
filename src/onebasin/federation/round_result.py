"""What a round brought."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from onebasin.federation.engines.engine import ClientId
from onebasin.federation.protocol import Report
from onebasin.wire.ledger import Decoded


@dataclass
class Outcome:
    """What a round brought: the reports of those who answered, and the reasons of those who did not.

    remarks: what was done to answers that were not taken as they came. decoded: how many messages said, where they were
    read, the values that were meant, and how many others.
    """

    round: int
    reports: dict[ClientId, Report] = field(default_factory=dict)
    failures: dict[ClientId, str] = field(default_factory=dict)
    remarks: dict[ClientId, str] = field(default_factory=dict)
    decoded: Decoded = field(default_factory=Decoded)

    def mean(self, number: Callable[[Report], float]) -> float | None:
        """Return the plain mean of a report's number over the clients that have it; None if none has."""
        known = [value for report in self.reports.values() if not math.isnan(value := number(report))]
        return sum(known) / len(known) if known else None
