"""Train one model across many devices that each start from their own weights, and count every byte that is sent.

The names in `__all__` are the public interface; docs/api/onebasin.md describes them. `run` runs a federation;
`find_permutations`, `match`, `merge` and `repair` align and merge models without one.

Packages import in one direction: core <- wire <- codecs <- networks <- symmetry <- learning, alignment <- methods <-
federation <- results <- report <- apps. Each package describes its files in its docstring.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onebasin.alignment.cycle_consistent import refine
    from onebasin.alignment.least_squares import least_squares
    from onebasin.alignment.matching import match
    from onebasin.alignment.merging import align, merge
    from onebasin.alignment.repair import repair
    from onebasin.alignment.rescaling import balance
    from onebasin.alignment.responses import Responses
    from onebasin.apps.run import Run, run
    from onebasin.core.settings import ConfigError
    from onebasin.federation.read_config import read_config
    from onebasin.federation.run_config import RunConfig
    from onebasin.learning.data.examples import Dataset, Split
    from onebasin.results.exports.rebuilding import ModelFileError, load
    from onebasin.symmetry.find import find_permutations
    from onebasin.symmetry.spec import PermutationSpec

_MODULES = {
    "ConfigError": "core.settings",
    "Dataset": "learning.data.examples",
    "ModelFileError": "results.exports.rebuilding",
    "PermutationSpec": "symmetry.spec",
    "Responses": "alignment.responses",
    "Run": "apps.run",
    "RunConfig": "federation.run_config",
    "Split": "learning.data.examples",
    "align": "alignment.merging",
    "balance": "alignment.rescaling",
    "find_permutations": "symmetry.find",
    "least_squares": "alignment.least_squares",
    "load": "results.exports.rebuilding",
    "match": "alignment.matching",
    "merge": "alignment.merging",
    "read_config": "federation.read_config",
    "refine": "alignment.cycle_consistent",
    "repair": "alignment.repair",
    "run": "apps.run",
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
    """Import a public name when it is first used, so that ``import onebasin`` does not load torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"onebasin.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
