import shutil

import pytest
from tests.report.saving import save_results

from onebasin.report import ReportError
from onebasin.report.typeset.plan import Plot
from onebasin.report.typeset.run_selection import ResultFolders, setting, single_section


def choice(**settings):
    return Plot.model_validate({"draw": "frontier", "from": ["a", "gone"], **settings})


@pytest.fixture
def results(tmp_path, make_run):
    runs = [make_run(), make_run(seed=2), make_run("FedAvg int8", epochs=5), make_run("Other", dataset="mnist")]
    save_results([*runs, make_run("Slow", done=3)], tmp_path / "a")
    return ResultFolders(tmp_path)


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
def test_runs_are_selected_by_settings_and_labels(results, settings, labels):
    assert [run.label for run in results.select(choice(**settings))] == labels


def test_a_run_in_two_folders_counts_once_under_each_name(results):
    shutil.copytree(results.root / "a", results.root / "b")
    twice = choice(**{"from": ["a", "b"], "only": ["FedAvg*"]})
    assert [run.label for run in results.select(twice)] == ["FedAvg fp32", "FedAvg fp32", "FedAvg int8"]
    assert results.source(twice)["runs"] == "3 runs, seeds 0, 2"
    named = choice(**{"from": ["a", "b"], "only": ["Other"], "names": {"b/Other": "again"}})
    assert [run.label for run in results.select(named)] == ["Other", "again"]


def test_a_source_names_the_studies_that_are_there(results):
    source = results.source(choice(only=["FedAvg fp32"]))
    root = results.root.as_posix()
    assert source == {
        "runs": "2 runs, seeds 0, 2",
        "studies": [f"{results.root.parent.as_posix()}/a.toml"],
        "commands": [f"onebasin compare {results.root.parent.as_posix()}/a.toml --results {root}/a"],
    }
    assert [study["name"] for study in results.studies()] == ["a"]


def test_a_piece_draws_one_task(results):
    with pytest.raises(ReportError, match=r"draws one task, and `where` lets through: .*fashion-mnist.*mnist"):
        single_section(results.select(choice()))


def test_settings_are_found_by_dotted_keys(make_run):
    assert setting(make_run(), "task.partition.alpha") == 0.3
    assert setting(make_run(), "task.partition.alpha.x") is None
