"""The project's own report: it is set from the committed results, and from none at all."""

from pathlib import Path

import pytest

from onebasin.report.typeset import write_text

pytest.importorskip("typst", reason="pip install 'onebasin[report]'")

ROOT = Path(__file__).parents[2]


def test_it_is_set_from_the_committed_results(tmp_path: Path) -> None:
    paths, _ = write_text(ROOT / "studies" / "results", ROOT / "docs" / "report", ["html", "slides"], tmp_path)
    page = paths[0].read_text(encoding="utf-8")
    assert 'id="frontier-iid"' in page
    assert "onebasin compare" in page


def test_no_study_has_to_be_there(tmp_path: Path) -> None:
    paths, left_out = write_text(tmp_path, ROOT / "docs" / "report", ["pdf", "slides"], tmp_path / "out")
    assert all(path.read_bytes().startswith(b"%PDF") for path in paths)
    assert any(each.startswith("frontier-iid: no results in") for each in left_out)
