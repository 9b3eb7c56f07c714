"""Train one model across many devices that each start from their own weights, and count every byte it costs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onebasin.alignment.balance import balance
    from onebasin.alignment.cycle_consistent import refine
    from onebasin.alignment.least_squares import least_squares
    from onebasin.alignment.matching import match
    from onebasin.alignment.merging import align, merge
    from onebasin.alignment.repair import repair
    from onebasin.alignment.responses import Responses
    from onebasin.config import ConfigError, RunConfig
    from onebasin.exports.rebuilding import ModelFileError, load
    from onebasin.launch import Run, run
    from onebasin.reading import read_config
    from onebasin.symmetry.find import find_permutations
    from onebasin.symmetry.spec import PermutationSpec
    from onebasin.tasks.dataset import Dataset, Split

_HOMES = {
    "ConfigError": "config",
    "Dataset": "tasks.dataset",
    "ModelFileError": "exports.rebuilding",
    "PermutationSpec": "symmetry.spec",
    "Responses": "alignment.responses",
    "Run": "launch",
    "RunConfig": "config",
    "Split": "tasks.dataset",
    "align": "alignment.merging",
    "balance": "alignment.balance",
    "find_permutations": "symmetry.find",
    "least_squares": "alignment.least_squares",
    "load": "exports.rebuilding",
    "match": "alignment.matching",
    "merge": "alignment.merging",
    "read_config": "reading",
    "refine": "alignment.cycle_consistent",
    "repair": "alignment.repair",
    "run": "launch",
}

__all__ = [
    "ConfigError",
    "Dataset",
    "ModelFileError",
    "PermutationSpec",
    "Responses",
    "Run",
    "RunConfig",
    "Split",
    "align",
    "balance",
    "find_permutations",
    "least_squares",
    "load",
    "match",
    "merge",
    "read_config",
    "refine",
    "repair",
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
