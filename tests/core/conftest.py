"""Packages of a test's own, as an installed package or a user's working directory would have them."""

import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from textwrap import dedent

import pytest

MakePackage = Callable[[dict[str, str]], str]

_numbers = count()


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePackage]:
    """Write an importable package from the text of its files by name, and return its name."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    made: list[str] = []

    def make(files: dict[str, str]) -> str:
        name = f"package_of_a_test_{next(_numbers)}"
        (tmp_path / name).mkdir()
        for file, text in {"__init__.py": "", **files}.items():
            (tmp_path / name / file).write_text(dedent(text), encoding="utf-8")
        made.append(name)
        return name

    yield make
    for module in [module for module in sys.modules if module.partition(".")[0] in made]:
        del sys.modules[module]
