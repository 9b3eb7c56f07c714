from html.parser import HTMLParser

import pytest
from tests.report.saving import save

from onebasin.report import ReportError, write_report

VOID = {"meta", "br", "link", "img", "input", "hr"}


class PageParser(HTMLParser):
    """Checks that every element is closed in order, and collects tags, attributes and texts."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def parsed(path):
    page = PageParser()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_the_page_is_self_contained(tmp_path, demo_runs):
    path = write_report(save(demo_runs(seeds=2), tmp_path / "demo"))
    assert path == tmp_path / "demo" / "report.html"
    assert (tmp_path / "demo" / "frontier.png").read_bytes().startswith(b"\x89PNG")
    page = parsed(path)
    addresses = [value for name, value in page.attributes if name in ("href", "src", "xlink:href", "action")]
    assert all(value.startswith("#") for value in addresses)
    assert "@import" not in path.read_text(encoding="utf-8")
    assert {"img", "link", "iframe"}.isdisjoint(page.tags)
    assert page.tags.count("svg") > 4


def test_the_page_says_what_was_compared_and_how_to_repeat_it(tmp_path, demo_runs):
    words = " ".join(parsed(write_report(save(demo_runs(), tmp_path / "demo"))).words)
    for text in (
        "fashion-mnist · lenet5 · Dirichlet(0.3) · 10 clients",
        "6 federated arms and 2 references, 3 seeds each. Savings are measured against FedAvg fp32.",
        "Fewest bytes within one point of it: FedAvg int8",
        "onebasin run demo/FedAvg-int8-2/config.toml --out FedAvg-int8-2-again",
        "None was recorded.",
        "abc1234",
    ):
        assert text in words


def test_the_same_runs_give_the_same_page(tmp_path, demo_runs):
    root = save(demo_runs(seeds=1), tmp_path / "demo")
    first = write_report(root, tmp_path / "a.html").read_bytes()
    assert first == write_report(root, tmp_path / "b.html").read_bytes()


def test_what_comes_from_files_is_escaped(tmp_path, make_run):
    bad = "<script>alert(1)</script>"
    run = make_run(bad, failures={2: [{"client": 3, "reason": bad}]})
    run.summary["environment"]["commit"] = bad
    run.holdings["classes"][0] = bad
    run.config["note"] = bad
    run.config["task"]["dataset"] = bad
    path = write_report(save([run], tmp_path / "<b>"))
    assert bad not in path.read_text(encoding="utf-8")
    assert parsed(path).tags.count("script") == 1


def test_failures_are_gathered_by_reason(tmp_path, make_run):
    vanished = {number: [{"client": c, "reason": "vanished"} for c in (1, 2, 3)] for number in (4, 5)}
    run = make_run(failures=vanished | {7: [{"client": 9, "reason": "loss is NaN"}]})
    text = write_report(save([run], tmp_path / "runs")).read_text(encoding="utf-8")
    assert "<td>6</td><td>1–3</td><td>4, 5</td><td>vanished</td>" in text
    assert "<td>1</td><td>9</td><td>7</td><td>loss is NaN</td>" in text


def test_unfinished_runs_and_single_seeds_are_reported(tmp_path, make_run):
    words = " ".join(parsed(write_report(save([make_run(), make_run("Slow", done=7)], tmp_path / "runs"))).words)
    assert "1 run not finished" in words
    assert "1 unfinished, at round 7 of 20" in words
    assert "stopped or still running: round 7 of 20" in words
    assert "One seed only: Every arm." in words


@pytest.mark.parametrize("done", [0, 2])
def test_a_page_of_one_run_that_has_only_begun(tmp_path, done, make_run):
    words = " ".join(parsed(write_report(save([make_run(done=done)], tmp_path / "runs"))).words)
    assert f"1 unfinished, at round {done} of 20" in words
    assert "No run is finished yet." in words


def test_each_task_has_its_own_section_and_picture(tmp_path, make_run):
    root = save([make_run(), make_run("Other", dataset="mnist", classes=3, method="x")], tmp_path / "runs")
    path = write_report(root, tmp_path / "out", baseline="FedAvg fp32")
    page = parsed(path)
    assert path == tmp_path / "out" / "report.html"
    assert ("href", "#task2") in page.attributes
    assert page.tags.count("section") == 2
    assert (tmp_path / "out" / "frontier-2.png").exists()


def test_the_pooled_reference_does_not_hide_the_clients(tmp_path, make_run):
    pooled = make_run("A pooled one", uplink="none", method="centralised")
    pooled.holdings["counts"] = [[6000] * 10]
    text = write_report(save([pooled, make_run()], tmp_path / "runs")).read_text(encoding="utf-8")
    assert "Dirichlet(0.3) · 10 clients" in text
    assert "The same for every run." in text


def test_mixed_and_uncommitted_code_is_reported(tmp_path, make_run):
    clean, changed = make_run(seed=0), make_run(seed=1)
    changed.summary["environment"] = clean.summary["environment"] | {"commit": "def5678-dirty"}
    words = " ".join(parsed(write_report(save([clean, changed], tmp_path / "runs"))).words)
    assert "The runs come from 2 commits: abc1234, def5678-dirty." in words
    assert "uncommitted changes" in words


def test_runs_without_holdings_or_environment_are_reported(tmp_path, make_run):
    run = make_run()
    run.holdings.clear()
    del run.summary["environment"]
    words = " ".join(parsed(write_report(save([run], tmp_path / "runs"))).words)
    assert "Not recorded for this task." in words
    assert "No finished run has recorded one." in words


def test_an_empty_or_missing_folder_says_what_a_run_directory_is(tmp_path):
    with pytest.raises(ReportError, match=r"holds no run directory.*config\.toml, history\.jsonl.*summary\.json"):
        write_report(tmp_path)
    with pytest.raises(ReportError, match="no such directory"):
        write_report(tmp_path / "nowhere")


def test_an_unknown_baseline_is_an_error_before_anything_is_written(tmp_path, make_run):
    root = save([make_run()], tmp_path / "runs")
    with pytest.raises(ReportError, match="FedSGD"):
        write_report(root, baseline="FedSGD")
    assert not (root / "report.html").exists()
