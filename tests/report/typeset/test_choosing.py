import shutil

import pytest
from tests.report.saving import save_results

from onebasin.report import ReportError
from onebasin.report.typeset.choosing import Shelf, one_section, setting
from onebasin.report.typeset.plan import Plot


def choice(**settings):
    return Plot.model_validate({"draw": "frontier", "from": ["a", "gone"], **settings})


@pytest.fixture
def shelf(tmp_path, make_run):
    runs = [make_run(), make_run(seed=2), make_run("FedAvg int8", epochs=5), make_run("Other", dataset="mnist")]
    save_results([*runs, make_run("Slow", done=3)], tmp_path / "a")
    return Shelf(tmp_path)


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({}, ["FedAvg fp32", "FedAvg fp32", "FedAvg int8", "Other"]),
        ({"only": ["FedAvg*"], "where": {"training.epochs": 5}}, ["FedAvg int8"]),
        ({"where": {"task.dataset": ["mnist", "x"]}}, ["Other"]),
        ({"without": ["FedAvg*"], "names": {"Other": "another"}}, ["another"]),
        ({"only": ["a/Oth*"], "names": {"a/Other": "this", "Other": "another"}}, ["this"]),
        ({"without": ["b/*", "a/FedAvg*"]}, ["Other"]),
        ({"where": {"no.such.key": 1}}, []),
    ],
)
def test_runs_are_chosen_by_settings_and_labels(shelf, settings, labels):
    assert [run.label for run in shelf.choose(choice(**settings))] == labels


def test_a_run_in_two_folders_counts_once_under_each_name(shelf):
    shutil.copytree(shelf.root / "a", shelf.root / "b")
    twice = choice(**{"from": ["a", "b"], "only": ["FedAvg*"]})
    assert [run.label for run in shelf.choose(twice)] == ["FedAvg fp32", "FedAvg fp32", "FedAvg int8"]
    assert shelf.source(twice)["runs"] == "3 runs, seeds 0, 2"
    named = choice(**{"from": ["a", "b"], "only": ["Other"], "names": {"b/Other": "again"}})
    assert [run.label for run in shelf.choose(named)] == ["Other", "again"]


def test_a_source_names_the_studies_that_are_there(shelf):
    source = shelf.source(choice(only=["FedAvg fp32"]))
    root = shelf.root.as_posix()
    assert source == {
        "runs": "2 runs, seeds 0, 2",
        "studies": [f"{shelf.root.parent.as_posix()}/a.toml"],
        "commands": [f"onebasin compare {shelf.root.parent.as_posix()}/a.toml --results {root}/a"],
    }
    assert [each["name"] for each in shelf.studies()] == ["a"]


def test_a_piece_draws_one_task(shelf):
    with pytest.raises(ReportError, match=r"draws one task, and `where` lets through: .*fashion-mnist.*mnist"):
        one_section(shelf.choose(choice()))


def test_settings_are_found_by_dotted_keys(make_run):
    assert setting(make_run(), "task.partition.alpha") == 0.3
    assert setting(make_run(), "task.partition.alpha.x") is None
