import sys
from html import unescape

import pytest
from tests.report.saving import save
from typer.testing import CliRunner

from onebasin.apps.cli import app
from onebasin.report import ReportError
from onebasin.report.typeset import write_documents

pytest.importorskip("typst", reason="pip install 'onebasin[report]'")

SPECIAL = r'#panic("x") $\bad$ * _a_ @b <c> "d" [e] \f `g` // ~ & {h}'


def html_text(root, out):
    (path,) = write_documents(root, ["html"], out)
    return unescape(path.read_text(encoding="utf-8"))


def test_a_report_and_slides_of_two_runs(tmp_path, make_run):
    root = save([make_run(), make_run("Other", method="x", up=1000, down=1000)], tmp_path / "runs")
    report, slides = write_documents(root, ["pdf", "slides"])
    assert (report, slides) == (root / "report.pdf", root / "slides.pdf")
    assert report.read_bytes().startswith(b"%PDF")
    again = write_documents(root, ["pdf"], tmp_path / "again.pdf")
    assert again == [tmp_path / "again.pdf"]
    assert again[0].read_bytes() == report.read_bytes()


def test_it_has_the_text_of_the_page(tmp_path, demo_runs):
    text = html_text(save(demo_runs(seeds=2), tmp_path / "demo"), tmp_path)
    for part in (
        "fashion-mnist · lenet5 · Dirichlet(0.3) · 10 clients",
        "6 federated arms and 2 references, 2 seeds each. Savings are measured against FedAvg fp32.",
        "onebasin run demo/FedAvg-int8-0/config.toml --out FedAvg-int8-0-again",
        "None was recorded.",
        "abc1234",
    ):
        assert part in text


def test_whatever_comes_from_files_is_shown_and_not_evaluated(tmp_path, make_run):
    run = make_run(SPECIAL, failures={2: [{"client": 3, "reason": SPECIAL}]})
    run.summary["environment"]["commit"] = SPECIAL
    run.holdings["classes"][0] = SPECIAL
    run.config["task"]["dataset"] = SPECIAL
    root = save([run, make_run("x" * 200)], tmp_path / SPECIAL.replace("/", ""))
    text = html_text(root, tmp_path)
    assert text.count(SPECIAL) > 5
    assert all(path.exists() for path in write_documents(root, ["pdf", "slides"]))


@pytest.mark.parametrize("done", [0, 3])
def test_a_run_that_has_just_started(tmp_path, make_run, done):
    run = make_run(done=done)
    run.holdings.clear()
    root = save([run], tmp_path / "runs")
    assert f"1 unfinished, at round {done} of 20" in html_text(root, tmp_path)
    assert write_documents(root, ["slides"])[0].exists()


def test_an_empty_folder_and_a_damaged_run_are_named(tmp_path, make_run):
    with pytest.raises(ReportError, match="holds no run directory"):
        write_documents(tmp_path, ["pdf"])
    root = save([make_run()], tmp_path / "runs")
    (root / "FedAvg-fp32-0" / "summary.json").write_text("{")
    with pytest.raises(ValueError, match="FedAvg-fp32-0 is not a run directory"):
        write_documents(root, ["pdf"])


def test_the_command_writes_all_three_or_what_is_asked(tmp_path, make_run):
    root = str(save([make_run()], tmp_path / "runs"))
    every = CliRunner().invoke(app, ["report", root])
    assert [line.rsplit("/")[-1] for line in every.output.split()] == ["report.html", "report.pdf", "slides.pdf"]
    one = CliRunner().invoke(app, ["report", root, "--as", "slides", "--out", str(tmp_path / "talk.pdf")])
    assert one.output.strip() == str(tmp_path / "talk.pdf")
    named = CliRunner().invoke(app, ["report", root, "--out", str(tmp_path / "only.pdf")])
    assert named.output.strip() == str(tmp_path / "only.pdf")
    wrong = CliRunner().invoke(app, ["report", root, "--as", "docx"])
    assert wrong.exit_code == 1
    assert "--as docx: expected html, pdf, slides" in wrong.output
    other = CliRunner().invoke(app, ["report", str(tmp_path), "--as", "pdf", "--out", str(tmp_path / "y.html")])
    assert other.exit_code == 1
    assert "--as pdf writes another kind of file" in other.output


def test_a_png_is_the_frontier_of_one_task(tmp_path, make_run):
    root = save([make_run()], tmp_path / "runs")
    picture = tmp_path / "pictures" / "bytes.png"
    drawn = CliRunner().invoke(app, ["report", str(root), "--out", str(picture)])
    assert drawn.output.strip() == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not (root / "report.html").exists()
    for wrong in (["--as", "pdf"], ["--text", str(tmp_path)]):
        refused = CliRunner().invoke(app, ["report", str(root), "--out", str(picture), *wrong])
        assert refused.exit_code == 1
        assert "is a picture" in refused.output
    both = save([make_run(), make_run("other", dataset="mnist")], tmp_path / "both")
    refused = CliRunner().invoke(app, ["report", str(both), "--out", str(picture)])
    assert refused.exit_code == 1
    assert "has 2" in refused.output


def test_without_typst_there_is_the_page_and_a_line_that_says_how_to_get_the_rest(tmp_path, make_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "typst", None)
    root = save([make_run()], tmp_path / "runs")
    every = CliRunner().invoke(app, ["report", str(root)])
    assert every.exit_code == 0
    assert (root / "report.html").exists()
    assert "pip install 'onebasin[report]'" in every.output
    one = CliRunner().invoke(app, ["report", str(root), "--as", "pdf"])
    assert one.exit_code == 1
    assert "pip install 'onebasin[report]'" in one.output
