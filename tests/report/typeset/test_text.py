import pytest
from tests.report.saving import save_results
from typer.testing import CliRunner

from onebasin.apps.cli import app
from onebasin.core.settings import ConfigError
from onebasin.report import ReportError
from onebasin.report.typeset import write_text

pytest.importorskip("typst", reason="pip install 'onebasin[report]'")

PLAN = """
[frontier]
draw = "frontier"
from = ["small", "later"]
names = { "FedAvg fp32" = "*FedAvg*" }

[table]
draw = "comparison"
from = ["small"]
columns = ["final %", "total"]

[later]
draw = "rounds"
from = ["later"]

[against]
draw = "against"
from = ["small"]
key = "training.epochs"

[fedavg]
draw = "numbers"
from = ["small"]
arm = "FedAvg fp32"

[small-bytes]
draw = "numbers"
from = ["small"]
arm = "Other"

[review]
draw = "markdown"
file = "review.md"
"""
REPORT = """
#import "onebasin.typ": *
#show: document-page.with(title: "T")
= A
#see("frontier"), #see("later").
#result("frontier") #result("table") #result("later") #result("against")
Bytes: #num("fedavg", "total"), #fewer("small-bytes", "fedavg", "total") times; #num("fedavg", "seeds").
#when("later")[never shown] #when("table")[shown]
#markdown("review", deeper: 1)
#data.studies.map(each => each.command).join()
"""
SLIDES = """
#import "onebasin.typ": *
#show: slide-pages.with(title: "T")
#title-slide([T], [S])
#slide([A], show-piece("frontier"))
#slide([B], show-piece("table"), foot: [f])
"""


@pytest.fixture
def text(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    for name, content in (("results.toml", PLAN), ("report.typ", REPORT), ("slides.typ", SLIDES)):
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "review.md").write_text(
        "# Title\n\n## A <b>\n\n*x* [y](https://z.org/) and `#panic()`\n", encoding="utf-8"
    )
    return folder


@pytest.fixture
def results(tmp_path, make_run):
    other = make_run("Other", method="x", up=1000, down=1000, epochs=5)
    save_results([make_run(), make_run(seed=1), other], tmp_path / "studies" / "results" / "small")
    return tmp_path / "studies" / "results"


def test_a_text_uses_results_that_exist_and_names_those_that_do_not(text, results):
    paths, left_out = write_text(results, text, ["pdf", "slides", "html"])
    assert [path.name for path in paths] == ["report.pdf", "slides.pdf", "report.html"]
    assert [path.parent for path in paths] == [text] * 3
    (line,) = left_out
    assert line == f"later: no results in {results.as_posix()}/later"
    page = paths[2].read_text(encoding="utf-8")
    for part in (
        "*FedAvg*",
        "98.7\u00a0MB, 2468 times; 2\u00a0seeds",
        "(not run yet)",
        "shown",
        '<a href="https://z.org/">y</a>',
        "<code>#panic()</code>",
        "A &lt;b>",
        f"onebasin compare {results.parent.as_posix()}/small.toml --results {results.as_posix()}/small",
    ):
        assert part in page
    assert "never shown" not in page


def test_new_results_are_used(text, results, make_run):
    save_results([make_run("New")], results / "later")
    paths, left_out = write_text(results, text, ["html"])
    assert left_out == []
    assert "never shown" in paths[0].read_text(encoding="utf-8")


def test_a_damaged_result_is_named(text, results):
    (results / "small" / "00000000000000aa.json").write_text('{"label": 1')
    with pytest.raises(ValueError, match=r"00000000000000aa\.json is not a result file"):
        write_text(results, text, ["pdf"])


def test_a_wrong_plan_or_source_is_named(text, results, tmp_path):
    with pytest.raises(ReportError, match="no such directory"):
        write_text(tmp_path / "nowhere", text, ["pdf"])
    (text / "report.typ").write_text('#import "onebasin.typ": *\n\n#nothing')
    with pytest.raises(ReportError, match=r"report\.typ: (?s:.*)nothing(?s:.*)report\.typ:3"):
        write_text(results, text, ["pdf"])
    (text / "results.toml").write_text(PLAN + '[x]\ndraw = "frontier"\nfrom = ["small"]\nwher = {}\n')
    with pytest.raises(ConfigError, match=r"x\.frontier\.wher|x.*wher: no such key"):
        write_text(results, text, ["pdf"])
    (text / "results.toml").write_text(PLAN + '[x]\ndraw = "markdown"\nfile = "gone.md"\n')
    with pytest.raises(ReportError, match=r"results\.toml: x: .*gone\.md"):
        write_text(results, text, ["pdf"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('["../x"]\ndraw = "picture"\nfile = "review.md"', r"\.\./x"),
        ('[x]\ndraw = "grid"\nfrom = ["small"]\ncolumns = {"seed" = "{}"}\nrow = "("', "no regular expression"),
        ('[x]\ndraw = "grid"\nfrom = ["small"]\ncolumns = {"seed" = "{}"}\nrow = ".*"', "has no group"),
    ],
)
def test_invalid_names_of_pieces_and_rows_are_refused(entry, message, text, results):
    (text / "results.toml").write_text(PLAN + entry)
    with pytest.raises(ConfigError, match=message):
        write_text(results, text, ["pdf"])
    assert not list(text.parent.glob("x*"))


def test_an_unknown_number_is_an_error_that_lists_the_known_ones(text, results):
    (text / "report.typ").write_text('#import "onebasin.typ": *\n#num("fedavg", "0.99")')
    with pytest.raises(ReportError, match=r"fedavg has no number called 0\.99; it has: seeds, final"):
        write_text(results, text, ["pdf"])


def test_a_text_may_have_no_slides(text, results):
    (text / "slides.typ").unlink()
    done = CliRunner().invoke(app, ["report", str(results), "--text", str(text)])
    assert done.exit_code == 0, done.output
    assert [line.rsplit("/")[-1] for line in done.output.splitlines()[:2]] == ["report.html", "report.pdf"]
    asked = CliRunner().invoke(app, ["report", str(results), "--text", str(text), "--as", "slides"])
    assert asked.exit_code == 1
    assert "slides.typ: there is no such source" in asked.output
    (text / "report.typ").unlink()
    with pytest.raises(ReportError, match=r"holds neither report\.typ nor slides\.typ"):
        write_text(results, text, [])


def test_the_command_compiles_a_text(text, results):
    done = CliRunner().invoke(app, ["report", str(results), "--text", str(text), "--as", "slides"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[0] == str(text / "slides.pdf")
    assert done.output.splitlines()[1].startswith("left out: later: no results in")
