"""Which choices go with a neuron order; those by which no model would ever be made are refused before a run starts."""

from pathlib import Path

import pytest

import onebasin as ob
from onebasin.core.settings import ConfigError
from onebasin.federation.read_config import read_config

LOCAL = "method.start=local"
ALIGNED = (LOCAL, "method.frame=weights")


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        (
            "onebasin",
            ("method.combine=median",),
            "combine='median': a median needs 3 replies or more, and frame='adopt-one' asks one client for its model",
        ),
        (
            "adopt-one",
            ("method.combine=trimmed-mean",),
            r"trim=0\.2, which cuts 1 each way, needs 3 replies or more, and frame='adopt-one' asks one client",
        ),
        (
            "adopt-one",
            ("method.combine=krum",),
            "byzantine=2 and keep=1 needs 7 replies or more, and frame='adopt-one'",
        ),
        ("adopt-one", ("method.start=broadcast",), "frame='adopt-one' needs start='local', not 'broadcast'"),
        ("local-only", ("method.frame=adopt-one",), "frame='adopt-one' needs start='local', .* and an uplink"),
        ("adopt-one", ("method.objective=control-variates",), "has no common model in round 1"),
        ("local-only", ("method.frame=weights",), "frame='weights' needs an uplink and a downlink"),
        ("fedavg", ("method.frame=signatures",), "frame='signatures' with start='broadcast' has nothing to align"),
        ("fedavg", (*ALIGNED, "method.parametrization=low-rank"), "'low-rank' has no neurons' weights"),
        (
            "fedavg",
            (*ALIGNED, "method.alignment.probes=public"),
            r"method\.alignment\.probes='public' needs examples: set task\.public",
        ),
    ],
)
def test_what_does_not_go_with_a_neuron_order_is_refused(method: str, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(method, changes)


def test_nothing_is_written_for_a_method_that_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a median needs 3 replies"):
        ob.run("onebasin", ["method.combine=median"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("adopt-one", ("method.combine=momentum",)),
        ("fedavg", (*ALIGNED, "method.combine=median")),
        ("fedavg", ("method.frame=weights", "method.alignment.every_round=true")),
        ("fedavg", (LOCAL, "method.frame=signatures", "method.combine=krum")),
    ],
)
def test_what_goes_with_a_neuron_order_is_not(method: str, changes: tuple[str, ...]) -> None:
    assert read_config(method, changes).method.federated
