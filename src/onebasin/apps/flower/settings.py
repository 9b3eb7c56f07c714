"""What a Flower run carries: our whole configuration as one string, and where its run directory is."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onebasin.core.settings import ConfigError
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig


@dataclass(frozen=True)
class Settings:
    """directory: None for the one that the configuration gets by itself, in the SuperLink's working directory."""

    config: RunConfig
    directory: Path | None

    def write(self) -> dict[str, str]:
        """Return the values of the Flower run."""
        return {"config": self.config.to_toml(), "run-directory": str(self.directory or "")}


def read_settings(values: Mapping[str, Any]) -> Settings:
    """Return what a Flower run is asked to do; `ConfigError` where its values are wrong.

    config: a method's name, or a configuration's TOML. The engine is Flower, whatever it says.
    """
    text, directory = values.get("config"), values.get("run-directory", "")
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"config is {text!r}; expected a method's name, or a configuration's TOML in one string")
    try:
        source: Any = tomllib.loads(text) if "=" in text else text.strip()
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config is not TOML: {error}") from None
    config = read_config(source, ["engine.kind=flower"])
    return Settings(config, Path(str(directory)) if directory else None)
