"""What a merge of files prints: how well neurons match, and what each way of merging is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table


def ways_table(scores: Mapping[str, Mapping[str, float]], chosen: str) -> Table:
    """A row a model and a way of merging: `disagreement` in nats, and `accuracy` where there are labels."""
    table = Table(
        box=None,
        padding=(0, 2),
        title="merged in every way; how much each disagrees with all models together",
        title_justify="left",
    )
    table.add_column("")
    tested = any("accuracy" in row for row in scores.values())
    table.add_column("disagrees, nats", justify="right")
    if tested:
        table.add_column("test accuracy, %", justify="right")
    for name, row in scores.items():
        cells = [f"{row['disagreement']:.4f}" if "disagreement" in row else ""]
        cells += [f"{100 * row['accuracy']:.2f}"] if tested else []
        table.add_row(f"[bold]{name}[/] (taken)" if name == chosen else name, *cells)
    return table


def likeness_table(shapes: Mapping[str, Sequence[int]], alike: Mapping[str, Mapping[str, float]]) -> Table:
    """A row a group: the mean cosine of neurons in one place, before and after matching."""
    table = Table(box=None, padding=(0, 2), title="cosine of neurons in one place", title_justify="left")
    for heading in ("group", "neurons", "before", "after"):
        table.add_column(heading, justify="left" if heading == "group" else "right")
    for group, shape in shapes.items():
        size = " x ".join(map(str, shape))
        table.add_row(group, size, f"{alike['before'][group]:.3f}", f"{alike['after'][group]:.3f}")
    return table
