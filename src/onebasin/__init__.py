"""Train one model across many devices that each start from their own weights, and count every byte it costs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onebasin.config import ConfigError, RunConfig
    from onebasin.launch import Run, run
    from onebasin.reading import read_config
    from onebasin.tasks.dataset import Dataset, Split

_HOMES = {
    "ConfigError": "config",
    "Dataset": "tasks.dataset",
    "Run": "launch",
    "RunConfig": "config",
    "Split": "tasks.dataset",
    "read_config": "reading",
    "run": "launch",
}

__all__ = ["ConfigError", "Dataset", "Run", "RunConfig", "Split", "read_config", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that ``import onebasin`` does not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"onebasin.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
