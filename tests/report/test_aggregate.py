from dataclasses import replace

import pytest

from onebasin.report.aggregate import sections
from onebasin.report.arms import ReportError, Spread
from onebasin.report.baseline import find_baseline, saving, section_baseline


def with_final(run, final, target_bytes=None):
    summary = run.summary | {"accuracy": {"final": final, "best": final, "last10": final}}
    return replace(run, summary=summary | {"bytes_to_target": {"0.80": target_bytes}})


def test_spread_of_three_values_uses_one_less_than_n():
    assert Spread.of([1.0, 2.0, 3.0]) == Spread(2.0, 1.0, 3)
    assert Spread.of([4.0]) == Spread(4.0, None, 1)
    assert Spread.of([None, None]) is None


def test_seeds_of_one_configuration_are_one_arm(make_run):
    runs = [with_final(make_run(seed=seed), final) for seed, final in enumerate((0.80, 0.82, 0.84))]
    (section,) = sections(runs)
    (arm,) = section.arms
    assert arm.accuracy().mean == pytest.approx(0.82)
    assert arm.accuracy().sd == pytest.approx(0.02)
    assert arm.bytes() == Spread(20 * 2 * 2_468_240, 0.0, 3)


def test_a_target_that_one_seed_missed_is_two_of_three(make_run):
    runs = [with_final(make_run(seed=s), 0.8, reached) for s, reached in enumerate((100, None, 300))]
    cost = sections(runs)[0].arms[0].bytes_to_target("0.80")
    assert (cost.reached, cost.n, cost.spread.mean) == (2, 3, 200.0)


def test_tasks_are_never_mixed_and_engines_do_not_divide_arms(make_run):
    other_engine = make_run(seed=1)
    other_engine.config["engine"] = {"kind": "pool"}
    found = sections([make_run(seed=0), other_engine, make_run(dataset="mnist"), make_run(clients=20)])
    assert [len(section.runs) for section in found] == [2, 1, 1]
    assert [len(section.arms) for section in found] == [1, 1, 1]
    assert found[1].title == "mnist · lenet5 · Dirichlet(0.3) · 10 clients"


def test_pooled_training_appears_in_every_task_of_its_data_and_model(make_run):
    pooled, iid, skewed = make_run("centralised", uplink="none"), make_run(), make_run()
    pooled.config["method"]["data"] = "pooled"
    iid.config["task"] = {**iid.config["task"], "partition": {"kind": "iid"}}
    found = sections([pooled, iid, skewed, make_run(dataset="mnist")])
    labels = [{arm.label for arm in section.arms} for section in found]
    assert labels == [{"FedAvg fp32", "centralised"}, {"FedAvg fp32", "centralised"}, {"FedAvg fp32"}]
    (alone,) = sections([pooled])
    assert [arm.label for arm in alone.arms] == ["centralised"]


def test_arms_of_one_name_are_distinguished_by_what_differs(make_run):
    (section,) = sections([make_run(epochs=1), make_run(epochs=5), make_run("Other")])
    assert {arm.label for arm in section.arms} == {"FedAvg fp32 (epochs=1)", "FedAvg fp32 (epochs=5)", "Other"}


def test_tasks_of_one_name_are_distinguished_too(make_run):
    wide = make_run()
    wide.config["task"]["model"] = {"kind": "lenet5", "width": 2}
    titles = [section.title for section in sections([make_run(), wide])]
    assert titles[1].endswith("(width=2)")
    assert titles[0] != titles[1]


def test_a_repeated_seed_counts_once_and_the_finished_run_is_kept(make_run):
    finished = make_run(seed=0)
    (section,) = sections([make_run(seed=0, done=3), finished, make_run(seed=1)])
    (arm,) = section.arms
    assert arm.runs[0] is finished
    assert (len(arm.runs), section.duplicates) == (2, 1)


def test_unfinished_runs_stay_out_of_the_means(make_run):
    (section,) = sections([make_run(seed=0), make_run(seed=1, done=4)])
    (arm,) = section.arms
    assert (arm.accuracy().n, len(arm.unfinished)) == (1, 1)


def test_best_arm_comes_first_and_references_last(demo):
    (section,) = sections(demo)
    assert [arm.label for arm in section.arms][-2:] == ["Centralised", "Local only"]
    finals = [arm.accuracy().mean for arm in section.arms if not arm.is_reference]
    assert finals == sorted(finals, reverse=True)
    assert section.arms[-1].bytes() is None


def test_baseline_is_fedavg_in_fp32_or_the_named_arm(demo):
    (section,) = sections(demo)
    assert find_baseline(section.arms).label == "FedAvg fp32"
    assert find_baseline(section.arms, "fedavg INT8").label == "FedAvg int8"
    with pytest.raises(ReportError, match=r"no arm is called 'FedSGD'; there are: .*FedAvg int8"):
        find_baseline(section.arms, "FedSGD")
    assert section_baseline(section, "FedSGD").label == "FedAvg fp32"


def test_of_a_tuning_sweep_the_strongest_is_the_baseline(make_run):
    slow, fast = (with_final(make_run(epochs=e), 0.81, cost) for e, cost in ((1, 9_000_000), (5, 4_000_000)))
    assert find_baseline(sections([slow, fast])[0].arms).label == "FedAvg fp32 (epochs=5)"
    named = with_final(make_run(epochs=1), 0.81, 9_000_000)
    sweep = with_final(make_run("FedAvg sweep", epochs=5), 0.81, 4_000_000)
    assert find_baseline(sections([named, sweep])[0].arms).label == "FedAvg fp32"


def test_no_baseline_without_plain_fedavg(make_run):
    momentum = make_run("FedAvgM")
    momentum.config["method"]["combine"] = {"kind": "momentum"}
    arms = sections([momentum, make_run("FedAvg int8", uplink="int8"), make_run("Other", method="x")])[0].arms
    assert find_baseline(arms) is None
    assert saving(arms[0], None) is None


def test_saving_is_a_ratio_of_bytes_in_total_and_to_a_target_all_seeds_reached(make_run):
    base, half = with_final(make_run(), 0.9, 800), with_final(make_run("Half", method="x", up=0), 0.9, 200)
    arms = {arm.label: arm for arm in sections([base, half])[0].arms}
    assert saving(arms["Half"], arms["FedAvg fp32"]) == 2.0
    assert saving(arms["Half"], arms["FedAvg fp32"], "0.80") == 4.0
    missed = [half, with_final(make_run("Half", method="x", up=0, seed=1), 0.7, None)]
    arms = {arm.label: arm for arm in sections([base, *missed])[0].arms}
    assert saving(arms["Half"], arms["FedAvg fp32"], "0.80") is None


def test_nothing_to_report_is_an_error():
    with pytest.raises(ReportError, match="at least one run directory"):
        sections([])


def test_order_of_runs_does_not_matter_for_the_arms(demo_runs):
    runs = demo_runs(seeds=2)
    forward, backward = sections(runs)[0], sections(runs[::-1])[0]
    assert {a.label: a.accuracy() for a in forward.arms} == {a.label: a.accuracy() for a in backward.arms}


def test_a_run_from_before_a_setting_existed_belongs_to_the_same_arm(make_run):
    older, newer, other = make_run(seed=0), make_run(seed=1), make_run(seed=2)
    newer.config["method"]["trains"] = "all"
    other.config["method"]["uplink"] = "int8"
    arms = sections([older, newer, other])[0].arms
    assert sorted(len(arm.runs) for arm in arms) == [1, 2]
