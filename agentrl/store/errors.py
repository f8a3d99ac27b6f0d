"""What keeps a run from being written down."""

from __future__ import annotations

from agentrl.errors import ConfigError


class StoreError(ConfigError):
    """A run cannot write down or read back; what was committed before is whole, the same command resumes.

    Args:
        reason: What happened, and where.
        remedy: What helps whoever wants to go on; '' where the reason says it.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}: {remedy}" if remedy else reason)
        self.reason = reason
