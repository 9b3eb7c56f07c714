"""The result of a round: reports, failures and remarks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from onebasin.core.clients import ClientId
from onebasin.federation.messages import Report
from onebasin.wire.ledger import Decoded


@dataclass
class RoundResult:
    """The result of a round.

    reports: by client, of the replies that were accepted.
    failures: by client, the reason why there is no usable reply.
    remarks: by client, on a reply that was changed, left out or not read.
    decoded: the number of replies that decoded to the values that their clients encoded, and of those that did not.
    """

    round: int
    reports: dict[ClientId, Report] = field(default_factory=dict)
    failures: dict[ClientId, str] = field(default_factory=dict)
    remarks: dict[ClientId, str] = field(default_factory=dict)
    decoded: Decoded = field(default_factory=Decoded)

    def mean(self, number: Callable[[Report], float]) -> float | None:
        """Return the unweighted mean of a number over the reports that have it; None if none has."""
        known = [value for report in self.reports.values() if not math.isnan(value := number(report))]
        return sum(known) / len(known) if known else None

    def to_facts(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "round": self.round,
            "reports": [[client, _numbers(report)] for client, report in self.reports.items()],
            "failures": [[client, reason] for client, reason in self.failures.items()],
            "remarks": [[client, remark] for client, remark in self.remarks.items()],
            "decoded": asdict(self.decoded),
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> RoundResult:
        """Return the result from its JSON values."""
        reports = {client: _report(numbers) for client, numbers in facts["reports"]}
        failures, remarks = dict(facts["failures"]), dict(facts["remarks"])
        return cls(facts["round"], reports, failures, remarks, Decoded(**facts["decoded"]))


def _numbers(report: Report) -> dict[str, float | None]:
    """Return the fields of a report, with None for NaN, which JSON has not."""
    return {name: None if math.isnan(number) else number for name, number in asdict(report).items()}


def _report(numbers: dict[str, Any]) -> Report:
    known: dict[str, Any] = {name: math.nan if number is None else number for name, number in numbers.items()}
    return Report(**known)
