"""Tables that `onebasin merge` prints: how well the neurons match, and how good each way of merging is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table


def ways_table(scores: Mapping[str, Mapping[str, float]], chosen: str) -> Table:
    """Return a table with a row for each model and each way of merging.

    scores: by row, `disagreement` in nats (merged models only) and `accuracy` in [0, 1] (if the data has labels).
    chosen: the row that is marked as the one taken.
    """
    table = Table(
        box=None,
        padding=(0, 2),
        title="each way of merging, and its disagreement with the ensemble of all models",
        title_justify="left",
    )
    table.add_column("")
    tested = any("accuracy" in row for row in scores.values())
    table.add_column("disagreement, nats", justify="right")
    if tested:
        table.add_column("test accuracy, %", justify="right")
    for name, row in scores.items():
        cells = [f"{row['disagreement']:.4f}" if "disagreement" in row else ""]
        cells += [f"{100 * row['accuracy']:.2f}"] if tested else []
        table.add_row(f"[bold]{name}[/] (taken)" if name == chosen else name, *cells)
    return table


def likeness_table(shapes: Mapping[str, Sequence[int]], cosines: Mapping[str, Mapping[str, float]]) -> Table:
    """Return a table of the mean cosine between neurons of the same index, one row per group.

    shapes: the shape of each group. cosines: for "before" and "after" matching, the mean cosine of each group.
    """
    table = Table(box=None, padding=(0, 2), title="mean cosine between neurons of the same index", title_justify="left")
    for heading in ("group", "neurons", "before", "after"):
        table.add_column(heading, justify="left" if heading == "group" else "right")
    for group, shape in shapes.items():
        size = " x ".join(map(str, shape))
        table.add_row(group, size, f"{cosines['before'][group]:.3f}", f"{cosines['after'][group]:.3f}")
    return table
