"""Which choices go with probe inputs and repair."""

import pytest

from onebasin.core.settings import ConfigError
from onebasin.federation.read_config import read_config

BY_CLIENTS = ("method.repair=rescale", "method.repair_targets=clients")
ALIGNED = ("method.start=local", "method.frame=weights")


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        (
            "fedavg",
            BY_CLIENTS,
            "repair_targets='clients' needs start='local', not 'broadcast': clients report their neurons' statistics",
        ),
        ("fedavg", (*BY_CLIENTS, "method.start=shared-seed"), "needs start='local', not 'shared-seed'"),
        ("adopt-one", BY_CLIENTS, "needs models of several clients, and frame='adopt-one' takes one client's"),
        ("onebasin", BY_CLIENTS, "needs models of several clients, and frame='adopt-one' takes one client's"),
        (
            "fedavg",
            (*ALIGNED, *BY_CLIENTS, "method.alignment.every_round=true"),
            "alignment.every_round=true repairs in each round; use repair_targets='probes'",
        ),
        ("local-only", ("method.repair=repair",), "repair and combine='least-squares' need an uplink"),
        ("fedavg", ("method.combine=least-squares", "method.probes=public"), r"set task\.public to how many there are"),
    ],
)
def test_what_does_not_go_with_probes_is_refused(method: str, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(method, changes)


def test_who_reports_no_statistics_repairs_by_none() -> None:
    """norm-reset restores no neuron's statistics, so it does not matter whose they would be."""
    assert read_config("fedavg", ["method.repair=norm-reset", "method.repair_targets=clients"]).method.probed


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        read_config("adopt-one", [*BY_CLIENTS, "method.combine=median"])
    assert "frame='adopt-one' takes one client's" in str(error.value)
    assert "a median needs 3 replies" in str(error.value)
