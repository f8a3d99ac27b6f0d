"""Reaches what stands outside the core, by the entry points of the group `agentrl.drivers`."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from agentrl.errors import ConfigError

GROUP = "agentrl.drivers"


def driver(name: str) -> Any:
    """Load the function behind a command.

    Raises:
        ConfigError: It is not installed.
    """
    for point in entry_points(group=GROUP, name=name):
        return point.load()
    raise ConfigError(f"no driver {name!r} is installed: reinstall agentrl (`make setup` or `pip install .`)")
