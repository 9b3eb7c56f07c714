"""The names that a configuration can use, with a line on each."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_catalogue(what: str) -> None:
    """Print the names of one sort; `ValueError` naming the sorts."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, line in catalogue(what).items():
        table.add_row(f"[bold]{escape(name)}[/]", escape(line))
    Console().print(table)


def catalogue(what: str) -> Mapping[str, str]:
    """Return name -> line for methods, datasets, partitions, models or codecs."""
    if what == "methods":
        from onebasin.methods.page import PAGES, load_page

        return {name: load_page(name).summary for name in PAGES.names}
    if what == "datasets":
        from onebasin.learning.data.load import DATASETS

        return DATASETS
    if what == "partitions":
        from onebasin.learning.data.partition import PARTITIONS

        return PARTITIONS
    if what == "models":
        from onebasin.learning.models import MODELS

        return MODELS
    if what == "codecs":
        from onebasin.codecs.chain import STAGES, options
        from onebasin.codecs.named_codecs import CODECS

        lines = {name: (codec.__doc__ or "").splitlines()[0] for name, codec in CODECS.items()}
        for name in STAGES.names:
            stage = STAGES.find(name)
            lines[name if stage.is_final else f"{name} |"] = f"{STAGES.summary(name)} ({options(stage)})"
        return lines
    raise ValueError(f"list: got {what!r}; expected methods, datasets, partitions, models or codecs")
