"""The names that a configuration can use, with a line on each (`onebasin list`)."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from onebasin.core.registry import Registry, announced


def print_names(what: str) -> None:
    """Print the names of one kind. Raises ValueError, which lists the kinds, for an unknown one."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, line in names(what).items():
        table.add_row(f"[bold]{escape(name)}[/]", escape(line))
    console = Console()
    console.print(table)
    console.print("or package.module:Name, of your own (docs/extending.md)", style="dim")


def names(what: str) -> Mapping[str, str]:
    """Return a line on each name of one kind, by name. what: a key of `KINDS`."""
    if what not in KINDS:
        raise ValueError(f"list: got {what!r}; expected {', '.join(list(KINDS)[:-1])} or {list(KINDS)[-1]}")
    return KINDS[what]()


def _methods() -> Mapping[str, str]:
    from onebasin.methods.page import PAGES, load_page

    return {name: load_page(name).summary for name in PAGES.names}


def _datasets() -> Mapping[str, str]:
    from onebasin.learning.data.load import DATASETS

    return DATASETS


def _partitions() -> Mapping[str, str]:
    from onebasin.learning.data.partition import PARTITIONS

    return {**PARTITIONS, **_announced("partition")}


def _models() -> Mapping[str, str]:
    from onebasin.learning.models import MODELS

    return MODELS


def _codecs() -> Mapping[str, str]:
    from onebasin.codecs.chain import STAGES, options
    from onebasin.codecs.named_codecs import CODECS

    lines = {name: (codec.__doc__ or "").splitlines()[0] for name, codec in CODECS.items()}
    for name in STAGES.names:
        stage = STAGES.find(name)
        lines[name if stage.is_final else f"{name} |"] = f"{STAGES.summary(name)} ({options(stage)})"
    return lines


def _rules() -> Mapping[str, str]:
    from onebasin.methods.aggregation_rule import AGGREGATION_RULES

    return _summaries(AGGREGATION_RULES)


def _objectives() -> Mapping[str, str]:
    from onebasin.learning.objective import OBJECTIVES

    return _summaries(OBJECTIVES)


def _parametrizations() -> Mapping[str, str]:
    from onebasin.learning.parametrization import PARAMETRIZATIONS

    return _summaries(PARAMETRIZATIONS)


def _optimizers() -> Mapping[str, str]:
    from onebasin.learning.optimizers import OPTIMIZERS

    built_in = {name: f"torch.optim.{optimizer.__name__}" for name, optimizer in OPTIMIZERS.items()}
    return {**built_in, **_announced("optimizer")}


def _engines() -> Mapping[str, str]:
    from onebasin.federation.engine import ENGINES

    return _summaries(ENGINES)


def _summaries(registry: Registry[Any]) -> Mapping[str, str]:
    return {name: registry.summary(name) for name in registry.names}


def _announced(kind: str) -> Mapping[str, str]:
    return {name: point.value for name, point in sorted(announced(kind).items())}


KINDS: Mapping[str, Callable[[], Mapping[str, str]]] = {
    "methods": _methods,
    "datasets": _datasets,
    "partitions": _partitions,
    "models": _models,
    "codecs": _codecs,
    "combine": _rules,
    "objectives": _objectives,
    "parametrizations": _parametrizations,
    "optimizers": _optimizers,
    "engines": _engines,
}
"""The kinds of names that `onebasin list` can print."""
