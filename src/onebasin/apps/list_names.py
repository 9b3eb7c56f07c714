"""The names that a configuration can use, with a line on each (`onebasin list`)."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from onebasin.core.references import FactoryError
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
    from onebasin.methods.page import PAGES

    return _lines(PAGES, lambda page: str(page.summary))


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

    going_on = {name for name, stage in STAGES.entries() if not getattr(stage, "is_final", True)}
    stages = _lines(STAGES, lambda stage: f"{_summary(stage)} ({options(stage)})")
    return {name: _summary(codec) for name, codec in CODECS.items()} | {
        f"{name} |" if name in going_on else name: line for name, line in stages.items()
    }


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
    return _lines(registry, _summary)


def _lines(registry: Registry[Any], line: Callable[[Any], str]) -> dict[str, str]:
    """Return name -> line of each entry; of an announced one that cannot be used, why."""
    return {
        name: f"cannot be used: {entry}" if isinstance(entry, FactoryError) else line(entry)
        for name, entry in registry.entries()
    }


def _summary(thing: Any) -> str:
    """Return the first line of a docstring."""
    return (thing.__doc__ or "").strip().partition("\n")[0]


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
