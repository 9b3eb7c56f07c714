"""Mistakes in what is brought from outside: one sentence each, which names the setting, before anything is trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import onebasin as ob
from onebasin.core.settings import ConfigError
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig

MakeConfig = Callable[..., RunConfig]
PARTS = "tests.extending.parts"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["method.combine=fednova"], r"^method\.combine: got 'fednova'; expected one of adam, .*package\.module:Name"),
        (["method.combine=mine:Gone"], r"^method\.combine: got 'mine:Gone'; 'mine:Gone': 'mine' has no 'Gone'"),
        (
            ["method.combine=nowhere:Rule"],
            r"^method\.combine: got 'nowhere:Rule'; .*module 'nowhere' cannot be imported \(ModuleNotFoundError",
        ),
        (
            ["method.combine=mine:Contrastive"],
            r"^method\.combine: .*expected a subclass of onebasin\.methods\.aggregation_rule\.AggregationRule",
        ),
        (["method.objective=mine:FedNova"], r"^method\.objective: .*expected a subclass of .*\.Objective"),
        (["method.parametrization=mine:zipf"], r"^method\.parametrization: .*expected a subclass of .*Parametrization"),
        (["engine=mine:Recorder"], r"^engine: .*expected a subclass of onebasin\.federation\.engine\.EngineSettings"),
        (["method.uplink=mine:FedNova"], r"^method\.uplink: .*expected a subclass of onebasin\.codecs\.stage\.Stage"),
        (["method.uplink=mine:Gone"], r"^method\.uplink: .*stage 'mine:Gone': 'mine' has no 'Gone'"),
        (
            ["method.combine=mine:FedNova", "method.combine.beta=0.9"],
            r"^method\.combine\.mine:FedNova\.beta: no such key",
        ),
        (
            ["method.combine=mine:FedNova", "method.combine.rate=-1.0"],
            r"^method\.combine\.mine:FedNova\.rate: got -1\.0; input should be greater than 0",
        ),
        (
            ["engine=mine:Recording", "engine.folder=3"],
            r"^engine\.mine:Recording\.folder: got 3; input should be a valid",
        ),
        (
            ["method.uplink=mine:Natural bits=3"],
            r"^method\.uplink: .*mine:Natural: bits='3': Extra inputs are not permitted; it has no settings",
        ),
        (
            [f"method.uplink=top-k 0.1 | {PARTS}:Halved"],
            rf"^method\.uplink: .*ends with '{PARTS}:Halved'; the last is to be one of eden, fp16",
        ),
        (["method.uplink=mine:Natural | fp16"], r"^method\.uplink: .*nothing can follow 'mine:Natural'"),
        (
            [f"method.combine={PARTS}:Literally"],
            rf"^method\.combine: got '{PARTS}:Literally'; a class from outside declares kind: str = ''",
        ),
        (
            ["method.objective=mine:Dynamic", "method.combine=mine:DynamicServer", "method.combine.alpha=1.0"],
            r"needs .* the same alpha",
        ),
        (
            ["method.objective=mine:ClientMomentum", "method.combine=mine:GeometricMedian"],
            r"objective='mine:ClientMomentum' needs a common start, and a rule that is content with the mean update",
        ),
        (["method.combine=mine:FedNova", "training.momentum=0.9"], r"'mine:FedNova' counts steps of SGD"),
        (["training.optimizer=lion"], r"^training\.optimizer: got 'lion'; expected one of sgd, adam, adamw"),
        (["training.optimizer=mine:Tiger"], r"^training\.optimizer: got 'mine:Tiger'; .*'mine' has no 'Tiger'"),
        (
            [f"training.optimizer={PARTS}:nesterov"],
            r"^training\.optimizer: .* is a partial; expected an optimiser's class, or a function",
        ),
        (
            ["training.optimizer=mine:Lion", "training.optimizer_options.beta=0.9"],
            r"^training\.optimizer='mine:Lion' does not take .*_options=\{'beta': 0\.9\} .*: TypeError: .*'beta",
        ),
        (
            ["training.optimizer_options.nesterov=true"],
            r"^training\.optimizer='sgd' does not take .*: ValueError: Nesterov momentum requires a momentum",
        ),
        (
            ["training.warmup_optimizer=mine:Lion", "training.weight_decay=0.1"],
            r"^training\.optimizer='mine:Lion' .* unexpected keyword argument 'weight_decay'",
        ),
        ([f"method.objective={PARTS}:Nowhere"], rf"method\.objective: exchange='{PARTS}:Gone': .* has no 'Gone'"),
        (
            [f"method.objective={PARTS}:Mistaken"],
            rf"method\.objective: exchange='{PARTS}:PerStep' is .*; expected a subclass of .*hook\.Hook",
        ),
        (
            [f"method.objective={PARTS}:Misnamed"],
            rf"method\.objective: exchange='{PARTS}:Named' has a section 'temperature'; expected control or extra",
        ),
        (
            [f"method.objective={PARTS}:Rival", f"method.combine={PARTS}:Telling"],
            rf"method\.combine: exchange='{PARTS}:Lengths' has the section 'extra' of method\.objective",
        ),
    ],
)
def test_a_configuration_that_is_wrong_says_where(changes: list[str], message: str, mine: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config("fedavg", changes)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("mine:GONE", r"^method: 'mine:GONE': 'mine' has no 'GONE'"),
        ("mine:FedNova", r"^method: 'mine:FedNova' is .*; expected an instance of onebasin\.methods\.page\.Page"),
    ],
)
def test_a_page_that_is_none_is_named(method: str, message: str, mine: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(method)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["task.partition=zipf"], r"^partition: 'zipf' is unknown; expected one of iid, .*package\.module:function"),
        (["task.partition=mine:Gone"], r"^partition: 'mine:Gone': 'mine' has no 'Gone'"),
        (["task.partition=mine:Lion"], r"^partition: 'mine:Lion' is a type; expected a function"),
        (
            ["task.partition=mine:zipf", "task.partition.alpha=1"],
            r"'mine:zipf' has no option 'alpha'; it takes exponent",
        ),
        (
            ["task.partition=mine:zipf", "task.partition.exponent=steep"],
            r"^partition 'mine:zipf' cannot be called: ValueError: could not convert string to float: 'steep'",
        ),
        ([f"task.partition={PARTS}:raising"], r"cannot be called: KeyError: 'no such column'"),
        ([f"task.partition={PARTS}:uneven"], r"gave client 1 float64 \[0\]; expected integer indices \[n\]"),
        (
            [f"method.combine={PARTS}:Greedy"],
            rf"^method\.combine: got '{PARTS}:Greedy'; its memory uses 'control', a slot of the server's",
        ),
    ],
)
def test_a_run_that_cannot_begin_says_why(
    changes: list[str], message: str, mine: Any, quick_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        ob.run(quick_config("fedavg", *changes), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_decoder_that_disagrees_with_its_encoder_is_found_out(quick_config: MakeConfig, tmp_path: Path) -> None:
    crooked = f"method.uplink={PARTS}:Crooked"
    run = ob.run(quick_config("fedavg", crooked, "federation.rounds=1"), out=tmp_path / "run")
    assert run.summary["decoded"] == {"equal": 0, "different": 4}
    assert all(failure["reason"].startswith("Diverged: ") for failure in run.history[0]["failures"])
