"""The review: every work has an identifier of its own, one line on its cost, and what the code cites is among them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "literature.md"
TEXT, _, REFERENCES = PAGE.read_text(encoding="utf-8").partition("\n## References\n")
COSTS, _, PLACES = TEXT.partition("\n## onebasin among them\n")

REFERENCE = re.compile(
    r"- \*\*(?P<name>[^*]+)\*\* \((?P<mark>[TA†])\): (?P<authors>[^*]+)\. \*(?P<title>[^*]+[.?])\* (?P<venue>[^\[]+)\. "
    r"\[(?P<shown>[^\]]+)\]\((?P<link>[^)]+)\)†?"
)
IDENTIFIERS = {  # how it is shown, and where its link leads
    r"arXiv:(\d\d(?:0[1-9]|1[0-2])\.\d{4,5})": "https://arxiv.org/abs/{}",
    r"doi:(10\.\d{4,}/\S+)": "https://doi.org/{}",
    r"OpenReview:([\w-]{10})": "https://openreview.net/forum?id={}",
    r"US (\d{11})": "https://patents.google.com/patent/US{}A1",
}


def entries() -> list[re.Match[str]]:
    lines = [line for line in REFERENCES.splitlines() if line]
    matches = [(line, REFERENCE.fullmatch(line)) for line in lines]
    strange = [line for line, match in matches if match is None]
    assert not strange, f"not of the form of a reference: {strange}"
    return [match for _, match in matches if match]


def rows(text: str, column: str) -> list[str]:
    """The first cells of all tables whose first column is called `column`."""
    found = []
    for table in re.findall(rf"^\| {column} \|.*\n\|[-|:]+\|\n((?:\|.*\n?)+)", text, re.MULTILINE):
        found += [line.split("|")[1].strip() for line in table.splitlines()]
    return found


def target(shown: str) -> str | None:
    for form, link in IDENTIFIERS.items():
        if match := re.fullmatch(form, shown):
            return link.format(match[1])
    return None


def test_identifiers_are_well_formed_and_unique() -> None:
    shown = [entry["shown"] for entry in entries()]
    assert len(shown) >= 40
    assert len(set(shown)) == len(shown)
    assert {entry["shown"]: entry["link"] for entry in entries()} == {each: target(each) for each in shown}


@pytest.mark.parametrize("wrong", ["arXiv:1613.02132", "arXiv:1610.021", "doi:11.1/x", "OpenReview:short", "US 2025"])
def test_malformed_identifiers_are_noticed(wrong: str) -> None:
    assert target(wrong) is None


def test_names_and_titles_are_unique() -> None:
    for field in ("name", "title"):
        values = [entry[field] for entry in entries()]
        assert len(set(values)) == len(values)


def test_every_work_has_one_line_on_its_cost() -> None:
    assert sorted(rows(COSTS, "work")) == sorted(entry["name"] for entry in entries())


def test_onebasin_is_placed_among_works_that_are_reviewed() -> None:
    placed = rows(PLACES, "work")
    assert placed[-1] == "**onebasin**"
    assert set(placed[:-1]) <= {entry["name"] for entry in entries()}


def test_the_page_counts_its_works_right() -> None:
    assert f"reviews {len(entries())} works" in TEXT


def test_what_the_code_cites_is_reviewed() -> None:
    cited = {
        number
        for path in (ROOT / "src").rglob("*.py")
        for number in re.findall(r"arXiv\s+(\d{4}\.\d{4,5})", path.read_text(encoding="utf-8"))
    }
    assert cited
    missing = cited - {entry["shown"].removeprefix("arXiv:") for entry in entries()}
    assert not missing, f"{PAGE.name} says nothing of {sorted(missing)}"
