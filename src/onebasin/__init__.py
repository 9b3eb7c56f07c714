"""Train one model across many devices that each start from their own weights, and count every byte it costs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onebasin.alignment.matching import match
    from onebasin.alignment.merging import merge
    from onebasin.config import ConfigError, RunConfig
    from onebasin.launch import Run, run
    from onebasin.reading import read_config
    from onebasin.symmetry.find import find_permutations
    from onebasin.symmetry.spec import PermutationSpec
    from onebasin.tasks.dataset import Dataset, Split

_HOMES = {
    "ConfigError": "config",
    "Dataset": "tasks.dataset",
    "PermutationSpec": "symmetry.spec",
    "Run": "launch",
    "RunConfig": "config",
    "Split": "tasks.dataset",
    "find_permutations": "symmetry.find",
    "match": "alignment.matching",
    "merge": "alignment.merging",
    "read_config": "reading",
    "run": "launch",
}

__all__ = [
    "ConfigError",
    "Dataset",
    "PermutationSpec",
    "Run",
    "RunConfig",
    "Split",
    "find_permutations",
    "match",
    "merge",
    "read_config",
    "run",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that ``import onebasin`` does not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"onebasin.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
