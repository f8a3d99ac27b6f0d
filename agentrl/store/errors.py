"""What keeps a run from being written down."""

from __future__ import annotations

from agentrl.errors import ConfigError


class StoreError(ConfigError):
    """A run cannot write down or read back; what was committed before is whole, the same command resumes."""
