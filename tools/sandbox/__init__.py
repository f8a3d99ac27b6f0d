"""Sandboxes: run foreign Python code behind walls, or refuse to.

`open_pool()` tries the levels and gives the strongest that works; `pool.acquire()` gives a fresh `Sandbox`.
"""

from typing import TYPE_CHECKING

from agentrl.tools.sandbox.types import Data, Execution, LevelName, LevelReport, Limits, Sandbox

if TYPE_CHECKING:
    from agentrl.tools.sandbox.pool import SandboxPool
    from agentrl.tools.sandbox.probe import open_pool, probe_levels

__all__ = [
    "Data",
    "Execution",
    "LevelName",
    "LevelReport",
    "Limits",
    "Sandbox",
    "SandboxPool",
    "open_pool",
    "probe_levels",
]


def __getattr__(name: str) -> object:
    if name == "SandboxPool":
        from agentrl.tools.sandbox.pool import SandboxPool

        return SandboxPool
    if name in ("open_pool", "probe_levels"):
        from agentrl.tools.sandbox import probe

        return getattr(probe, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
