"""What a text takes from results: `results.toml`, a table a piece.

[frontier-iid]                            # the name by which the text shows it
draw = "frontier"                         # also: rounds, bytes, holdings, against, comparison, grid, numbers;
                                          # markdown and picture take a `file` beside the text
from = ["onebasin", "frontier"]           # folders of results; what is not there is left out
where = { "task.partition.kind" = "iid" } # settings that a run must have; a list: one of several
only = ["FedAvg*"]                        # patterns of labels, or of folder/label; `without` = ... leaves some out
names = { "STC 3%" = "STC, 3%" }          # what arms (label, or folder/label) are called; in a grid, also their order
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel

from onebasin.core.tables import read_toml, validate


def _with_a_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if not groups:
        raise ValueError("has no group, such as (.*), for the row's name")
    return pattern


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Choice(_Entry):
    """Which runs a piece is made of, and what their arms are called."""

    folders: list[str] = Field(alias="from", min_length=1)
    where: dict[str, Any] = {}
    only: list[str] = []
    without: list[str] = []
    names: dict[str, str] = {}


class Plot(Choice):
    """A figure about one task."""

    draw: Literal["frontier", "rounds", "bytes", "holdings"]


class Against(Choice):
    """Final accuracy against a setting, a panel a task."""

    draw: Literal["against"]
    key: str


class Comparison(Choice):
    """The table of one task; `columns`: some of its headings."""

    draw: Literal["comparison"]
    columns: list[str] = []
    baseline: str | None = None


class Grid(Choice):
    """Final accuracies: a row an arm, a column each combination of settings.

    columns: settings with the words for their values, such as "training.epochs" = "{} epochs".
    headings: other words for a value; the values that stand here come first.
    row: a pattern whose first group is the row's name.
    best: whether the best of each column stands out.
    """

    draw: Literal["grid"]
    columns: dict[str, str] = Field(min_length=1)
    headings: dict[str, str] = {}
    row: Annotated[str, AfterValidator(_with_a_group)] = "(.*)"
    best: bool = True


class Numbers(Choice):
    """The numbers of one arm, for sentences."""

    draw: Literal["numbers"]
    arm: str


class Markdown(_Entry):
    """A Markdown file: those of its second-level sections that are named, else all but those in `without`."""

    draw: Literal["markdown"]
    file: str
    sections: list[str] = []
    without: list[str] = []


class Picture(_Entry):
    """A picture that was made by another command, which its caption should name."""

    draw: Literal["picture"]
    file: str


Entry = Annotated[Plot | Against | Comparison | Grid | Numbers | Markdown | Picture, Field(discriminator="draw")]


Name = Annotated[str, Field(pattern=r"^[\w-]+$")]
"""Of a piece; files are called by it."""


class Plan(RootModel[dict[Name, Entry]]):
    """All pieces of a text, by name."""


def read_plan(path: Path) -> dict[str, Entry]:
    """The pieces that `path` asks for; `ConfigError` names the entry that is wrong, and what would be right."""
    return validate(Plan, read_toml(path)).root
