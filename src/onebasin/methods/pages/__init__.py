"""The methods, a page each: the paper, and one choice for each question of `onebasin.federation.run_config.Method`."""

from importlib import import_module

from onebasin.federation.run_config import ConfigError
from onebasin.methods.page import Page

METHODS = (
    "centralised",
    "local-only",
    "best-client",
    "ensemble",
    "fedavg",
    "adopt-one",
    "fedprox",
    "scaffold",
    "fedavgm",
    "fedadam",
    "fedyogi",
    "diloco",
    "stc",
    "dgc",
    "fedpaq",
    "signsgd",
    "drive",
    "sparta",
    "streaming-diloco",
    "sparseloco",
    "powersgd",
    "fedpara",
    "fedpm",
    "klms",
    "bicompfl",
    "zampling",
    "fedmrn",
    "fedpfn",
    "piggyback",
    "fedmask",
    "onebasin",
)


def load_page(name: str) -> Page:
    """Return the page of the method; `ConfigError` naming the methods that exist."""
    if name not in METHODS:
        raise ConfigError(f"method: got {name!r}; expected one of {', '.join(METHODS)}, or the path of a .toml file")
    page: Page = import_module(f"onebasin.methods.pages.{name.replace('-', '_')}").PAGE
    return page
