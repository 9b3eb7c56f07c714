"""The API pages of the site have every public name."""

import re
from pathlib import Path

import pytest

import onebasin

API = Path(__file__).parents[2] / "docs" / "api"
ROOMS = ("symmetry", "alignment", "codecs", "wire", "learning", "methods", "federation")


def documented(page: str) -> list[str]:
    return re.findall(r"^::: onebasin\.(\w+)$", (API / f"{page}.md").read_text(), re.MULTILINE)


def test_the_first_page_has_every_exported_name_once() -> None:
    assert sorted(documented("onebasin")) == sorted(onebasin.__all__)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_a_page(room: str) -> None:
    assert documented(room) == [room]
