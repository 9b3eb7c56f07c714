"""A method's page: one choice for each question, and the settings that its paper asks for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onebasin.methods.method import Method


@dataclass(frozen=True)
class Page:
    """`settings`: tables such as `[training]` that lie beneath what the user's configuration says."""

    method: Method
    summary: str
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
