"""The settings in `results.toml`, which list what a text takes from results: one table for each piece.

[frontier-iid]                            # the piece's name, by which the text shows it
draw = "frontier"                         # or: rounds, bytes, holdings, against, comparison, grid, numbers;
                                          # or: markdown, picture, which need a `file` beside the text
from = ["onebasin", "frontier"]           # folders of results; a missing folder is ignored
where = { "task.partition.kind" = "iid" } # settings that a run must have; a list allows several values
only = ["FedAvg*"]                        # patterns of labels or of folder/label; `without` = [...] excludes some
names = { "STC 3%" = "STC, 3%" }          # new labels of arms, by label or folder/label; in a grid also the row order
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel

from onebasin.core.tables import read_toml, validate


def _require_group(pattern: str) -> str:
    """Return the regular expression; ValueError when it is invalid or has no group."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if not groups:
        raise ValueError("has no group, such as (.*), for the row's name")
    return pattern


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RunChoice(_Settings):
    """Which runs a piece uses, and the labels of their arms. The module docstring describes the keys."""

    folders: list[str] = Field(alias="from", min_length=1)
    where: dict[str, Any] = {}
    only: list[str] = []
    without: list[str] = []
    names: dict[str, str] = {}


class Plot(RunChoice):
    """A figure about one task."""

    draw: Literal["frontier", "rounds", "bytes", "holdings"]


class Against(RunChoice):
    """The final accuracy against the setting `key`, with a panel for each task."""

    draw: Literal["against"]
    key: str


class Comparison(RunChoice):
    """The comparison table of one task.

    columns: the headings of the columns to show (default: all). baseline: the label of the baseline arm.
    """

    draw: Literal["comparison"]
    columns: list[str] = []
    baseline: str | None = None


class Grid(RunChoice):
    """A table of final accuracies with a row for each arm and a column for each combination of settings.

    columns: by setting, a template for its values in the headings, such as "training.epochs" = "{} epochs".
    headings: by value, the text that replaces it in the headings; the columns of these values come first.
    row: a regular expression for labels, whose first group is the row's name.
    best: whether the best accuracy of each column is emphasised.
    """

    draw: Literal["grid"]
    columns: dict[str, str] = Field(min_length=1)
    headings: dict[str, str] = {}
    row: Annotated[str, AfterValidator(_require_group)] = "(.*)"
    best: bool = True


class Numbers(RunChoice):
    """The numbers of the arm with the label `arm`, for use in sentences."""

    draw: Literal["numbers"]
    arm: str


class Markdown(_Settings):
    """A Markdown file.

    sections: the second-level sections to show (default: all). without: second-level sections to leave out.
    """

    draw: Literal["markdown"]
    file: str
    sections: list[str] = []
    without: list[str] = []


class Picture(_Settings):
    """A picture made by another command; its caption should name that command."""

    draw: Literal["picture"]
    file: str


Entry = Annotated[Plot | Against | Comparison | Grid | Numbers | Markdown | Picture, Field(discriminator="draw")]


Name = Annotated[str, Field(pattern=r"^[\w-]+$")]
"""The name of a piece, which is also part of file names."""


class Plan(RootModel[dict[Name, Entry]]):
    """All pieces of a text by name."""


def read_plan(path: Path) -> dict[str, Entry]:
    """Return the pieces listed in the file `path`. Raises ConfigError for a wrong entry, with what is expected."""
    return validate(Plan, read_toml(path)).root
