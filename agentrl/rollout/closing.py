"""Closes environments where something else is on its way already, and must not be lost for it."""

from __future__ import annotations

import asyncio

from agentrl.environment import Environment
from agentrl.errors import WorkCancelled


def is_cancelled() -> bool:
    """Whether somebody asked the present task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def close_quietly(env: Environment) -> Exception | None:
    """Close an environment, cancelled or not, and give what went wrong instead of raising it."""
    try:
        await asyncio.shield(env.close())
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        return WorkCancelled(f"close() was cancelled from inside: {error}")
    except Exception as error:
        return error
    return None
