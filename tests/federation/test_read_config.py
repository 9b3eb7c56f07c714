from pathlib import Path

import pytest

from onebasin.apps.study import read_study
from onebasin.core.settings import ConfigError
from onebasin.core.tables import merge
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.methods.page import PAGES, load_page

NEEDED = {"piggyback": ["task.weights={file='model.safetensors', digest='00112233445566778899aabbccddeeff'}"]}
"""What a page leaves to its user."""


@pytest.mark.parametrize("method", PAGES.names)
def test_every_page_is_a_run(method: str) -> None:
    page = load_page(method)
    assert page.method.name == method
    config = read_config(method, NEEDED.get(method, []))
    assert config.method == page.method
    assert RunConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize("method", PAGES.names)
def test_a_configuration_is_read_from_toml_as_it_was_written(method: str, tmp_path: Path) -> None:
    config = read_config(
        method, ["training.steps=7", 'task.partition={kind="shards", shards=3}', *NEEDED.get(method, [])]
    )
    path = tmp_path / "run.toml"
    path.write_text(config.to_toml())
    assert read_config(path) == config


def test_overrides_change_single_settings_of_a_page() -> None:
    config = read_config("fedavgm", ["method.combine.beta=0.5", "task.partition.alpha=0.1", "training.lr=0.25"])
    assert config.method.combine.model_dump() == {"kind": "momentum", "rate": 1.0, "beta": 0.5}
    assert config.task.partition.options == {"alpha": 0.1}
    assert config.training.lr == 0.25


def test_a_choice_of_another_kind_replaces_all_settings_of_the_old_one() -> None:
    config = read_config("fedavgm", ["method.combine=average", "task.partition=iid"])
    assert config.method.combine.model_dump() == {"kind": "average", "rate": 1.0}
    assert config.task.partition.options == {}
    assert merge({"a": {"kind": "x", "b": 1}}, {"a": {"c": 2}}) == {"a": {"kind": "x", "b": 1, "c": 2}}


def test_a_page_has_the_settings_of_its_paper_and_the_user_overrides_them() -> None:
    assert read_config("diloco").training.optimizer == "adamw"
    assert read_config("diloco").federation.weighting == "uniform"
    assert read_config("diloco", ["training.optimizer=sgd"]).training.optimizer == "sgd"


def test_identity_depends_only_on_what_affects_the_result() -> None:
    one = read_config("fedavg")
    assert one.identity() == read_config("fedavg", ["label=x", "engine=pool", "tracking.tensorboard=true"]).identity()
    assert one.identity() == read_config("fedavg", ["training.lr=0.05"]).identity(), "a default that is spelled out"
    changes = ["seed=1", "training.lr=0.1", "method.uplink=fp16", "task.partition.alpha=1.0", "federation.rounds=7"]
    assert len({one.identity(), *(read_config("fedavg", [change]).identity() for change in changes)}) == 6
    kinds = [read_config("fedavg", [f"method.objective={kind}"]).identity() for kind in ("plain", "proximal")]
    assert kinds[0] != kinds[1]


def test_the_identity_of_pooled_runs_does_not_depend_on_the_partition() -> None:
    iid = read_config("centralised", ["task.partition=iid", "task.clients=3"])
    assert iid.identity() == read_config("centralised").identity()


@pytest.mark.parametrize(
    ("source", "overrides", "message"),
    [
        ("fedavgg", [], r"method: got 'fedavgg'; expected one of adopt-one, .*diloco"),
        ("fedavg", ["traning.lr=1"], r"traning: no such key"),
        ("fedavg", ["training.rate=1"], r"training\.rate: no such key"),
        ("fedavg", ['training.lr="fast"'], r"training\.lr: got 'fast'; input should be a valid number"),
        ("fedavg", ["training.lr=-1.0"], r"training\.lr: got -1\.0; input should be greater than 0"),
        ("fedavg", ["federation.rounds=2.5"], r"federation\.rounds: got 2\.5; input should be a valid integer"),
        (
            "fedavg",
            ["method.uplink=int7"],
            r"method\.uplink: got 'int7'; unknown codec; there are none, fp32, fp16, int8",
        ),
        ("fedavg", ["method.start=anywhere"], r"method\.start: got 'anywhere'; input should be 'broadcast'"),
        (
            "fedavg",
            ["method.combine=mode"],
            r"method\.combine: got 'mode'; expected one of adam, average, .*, or package\.module:Name",
        ),
        ("fedavg", ["method.uplink=none"], r"either both are 'none' or neither"),
        ("fedavg", ["method.frame=adopt-one"], r"frame='adopt-one' needs start='local', not 'broadcast'"),
        ("scaffold", ["training.momentum=0.9"], r"needs training\.optimizer='sgd' with momentum=0"),
        ("adopt-one", ["method.objective=control-variates"], r"frame='adopt-one' has no common model in round 1"),
        ("fedavg", ["task.partition.clients=5"], r"partition\.clients: is no option of a partition"),
        ("fedavg", ["task.model.seed=5"], r"model\.seed: is no option of a model"),
        ("fedavg", ["federation.cohort=11"], r"federation\.cohort=11 is more than task\.clients=10"),
        ("fedavg", ["training"], r"'training': expected KEY=VALUE"),
        ("fedavg", ["training.lr.x=1"], r"training\.lr: .*input should be a valid number"),
        ("nowhere.toml", [], r"nowhere\.toml: no such file"),
        ({"training": {}}, [], r"method: got None; expected a name"),
    ],
)
def test_wrong_settings_are_named(source: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(source, overrides)


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("method = ")
    with pytest.raises(ConfigError, match=r"broken\.toml: not a TOML file"):
        read_config(path)


STUDY = """
title = "a study"
seeds = [0, 1]
[base.federation]
rounds = 2
[grid]
"task.partition" = ["iid", { kind = "dirichlet", alpha = 0.5 }]
[[arm]]
label = "plain"
method = "fedavg"
[[arm]]
label = "sweep"
method = { name = "fedavg", uplink = "int8" }
seeds = [0]
grid = { "training.lr" = [0.1, 0.2] }
[[arm]]
label = "all in one place"
method = "centralised"
"""


def test_a_study_is_a_grid(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    study, runs = read_study(path)
    assert study.title == "a study"
    assert [(r.label, r.seed, r.task.partition.kind) for r in runs] == [
        ("plain", 0, "iid"),
        ("plain", 0, "dirichlet"),
        ("plain", 1, "iid"),
        ("plain", 1, "dirichlet"),
        ("sweep lr=0.1", 0, "iid"),
        ("sweep lr=0.2", 0, "iid"),
        ("sweep lr=0.1", 0, "dirichlet"),
        ("sweep lr=0.2", 0, "dirichlet"),
        ("all in one place", 0, "iid"),
        ("all in one place", 1, "iid"),
    ]
    assert all(r.federation.rounds == 2 for r in runs)


def test_a_grid_changes_settings_of_a_choice_that_the_base_names_by_a_string(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        'title = "t"\n[base.task]\nmodel = "cnn4"\npartition = "quantity"\n[base.method]\ndownlink = "int8"\n'
        '[grid]\n"task.partition.alpha" = [0.1]\n"task.model.norm" = ["none"]\n"method.uplink" = ["fp16"]\n'
        '[[arm]]\nlabel = "a"\nmethod = "fedavg"\n[[arm]]\nlabel = "b"\nmethod = "fedprox"\n'
    )
    _, runs = read_study(path)
    for run, name in zip(runs, ("fedavg", "fedprox"), strict=True):
        assert (run.task.model.kind, run.task.model.options) == ("cnn4", {"norm": "none"})
        assert (run.task.partition.kind, run.task.partition.options) == ("quantity", {"alpha": 0.1})
        assert (run.method.name, run.method.uplink, run.method.downlink) == (name, "fp16", "int8")


def test_a_study_with_equal_runs_or_an_empty_grid_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    arms = '[[arm]]\nlabel = "a"\nmethod = "fedavg"\n'
    path.write_text('title = "t"\n' + arms + arms.replace('"a"', '"b"'))
    with pytest.raises(ConfigError, match="arms 'a' and 'b' are the same run"):
        read_study(path)
    path.write_text('title = "t"\n[grid]\n"seed" = []\n' + arms)
    with pytest.raises(ConfigError, match="'seed' has no values"):
        read_study(path)


def test_the_arm_of_a_study_that_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('title = "t"\n[[arm]]\nlabel = "odd"\nmethod = "fedavg"\ntraining = { lr = "x" }\n')
    with pytest.raises(ConfigError, match=r"arm 'odd': training\.lr: got 'x'"):
        read_study(path)
    path.write_text('title = "t"\n')
    with pytest.raises(ConfigError, match="arm: is missing"):
        read_study(path)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "studies").glob("*.toml")), ids=lambda p: p.stem)
def test_every_study_can_be_read(path: Path) -> None:
    if path.stem == "piggyback":  # its backbones are trained first
        with pytest.raises(ConfigError, match=r"task\.weights: runs/backbones/mnist: No such file"):
            read_study(path)
        return
    study, runs = read_study(path)
    assert study.title
    assert runs


def test_a_built_in_choice_can_be_named_by_its_reference() -> None:
    reference = "onebasin.methods.aggregation.momentum:Momentum"
    by_name, by_reference = (read_config("fedavg", [f"method.combine={name}"]) for name in ("momentum", reference))
    assert by_reference.method == by_name.method
    assert by_reference.identity() == by_name.identity()
