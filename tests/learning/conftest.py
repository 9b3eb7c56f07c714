"""The real data where it is at hand, and a hub that gives nothing."""

import os
from pathlib import Path

import pytest

from onebasin.learning.data.load import Dataset, DatasetNotFound, load_dataset
from onebasin.learning.data.sources import hub


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The directory of real data; tests that need it are skipped where ONEBASIN_DATA is unset."""
    directory = os.environ.get("ONEBASIN_DATA")
    if not directory:
        pytest.skip("ONEBASIN_DATA is not set")
    return Path(directory)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that gives nothing."""

    def refuse(repository: str, file: str, revision: str | None = None) -> Path:
        raise DatasetNotFound(f"{repository}/{file}: no hub in this test")

    monkeypatch.setattr(hub, "download", refuse)
