"""The examples of docs/extending.md as a module outside the package, imported as the page's readers import theirs."""

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from onebasin.codecs.chain import STAGES
from onebasin.core.registry import Registry
from onebasin.federation.engine import ENGINES
from onebasin.learning.objective import OBJECTIVES
from onebasin.learning.parametrization import PARAMETRIZATIONS
from onebasin.methods.aggregation_rule import AGGREGATION_RULES
from onebasin.methods.page import PAGES

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
REGISTRIES: tuple[Registry[Any], ...] = (STAGES, AGGREGATION_RULES, OBJECTIVES, PARAMETRIZATIONS, ENGINES, PAGES)


def blocks(language: str) -> list[str]:
    """Return the page's code blocks of a language; "" for commands."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def forget(*modules: str) -> None:
    """Have modules, and what registries found outside the package, be looked up anew when they are next asked for."""
    for module in modules:
        sys.modules.pop(module, None)
    for registry in REGISTRIES:
        registry.__dict__.pop("announced", None)
        for name in [name for name in registry._loaded if name not in registry.built_in]:
            del registry._loaded[name]


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a folder from which Python imports, in this process and in those that it starts."""
    folder = tmp_path_factory.mktemp("outside")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(scope="module")
def mine(outside: Path) -> Iterator[Any]:
    """Write the page's Python blocks to `mine.py` and return that module."""
    (outside / "mine.py").write_text("\n\n".join(blocks("python")))
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "mine", raising=False)
        yield import_module("mine")
        forget("mine")
