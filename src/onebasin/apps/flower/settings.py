"""The settings of a Flower run: the whole configuration as one string, and the run directory."""

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
    """The settings of a Flower run.

    config: the configuration.
    directory: the run directory on the SuperLink's machine; None for the default, in its working directory.
    """

    config: RunConfig
    directory: Path | None

    def write(self) -> dict[str, str]:
        """Return the settings as Flower's run configuration."""
        return {"config": self.config.to_toml(), "run-directory": str(self.directory or "")}


def read_settings(values: Mapping[str, Any]) -> Settings:
    """Return the settings in Flower's run configuration.

    values: `config` is a method's name, or a configuration as TOML, and `run-directory` a path or "". The engine is
    Flower, whatever the configuration says.
    Raises ConfigError if a value is wrong.
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
