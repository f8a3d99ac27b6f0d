"""Plays one episode to its end; the one place where an exception becomes data."""

from __future__ import annotations

import asyncio

from agentrl.environment import Environment
from agentrl.episode import Episode, Failure
from agentrl.errors import ConfigError, DeadlineError, InfrastructureError
from agentrl.rollout.running import Running


async def attempt(running: Running) -> Episode:
    """Play an episode that has not started, or a fork, to its end and close its environment.

    Raises:
        ConfigError: The caller's mistake, such as a prompt that is longer than the context.
        CancelledError: After the environment was closed.
    """
    failure: Failure | None = None
    try:
        async with asyncio.timeout(running.table.limits.episode_seconds):
            if not running.contexts:
                await running.start()
            while running.finish is None:
                await running.step()
    except TimeoutError:
        seconds = running.table.limits.episode_seconds
        late = DeadlineError(
            f"episode {running.id} ran longer than {seconds:g} s, in turn {len(running.turns)}"
        )
        failure = as_failure(late, running)
    except (ConfigError, asyncio.CancelledError):
        await close_quietly(running.env)
        raise
    except Exception as error:
        failure = as_failure(error, running)
    closing = await close_quietly(running.env)
    if failure is None and closing is not None:
        failure = as_failure(closing, running)
    return running.episode(failure)


def as_failure(error: Exception, running: Running) -> Failure:
    """Class an exception by the boundary that it crossed; an unknown one is blamed on the environment."""
    cause = error.__cause__ or error
    return Failure(
        kind=error.kind if isinstance(error, InfrastructureError) else "environment",
        message=str(error) or type(error).__name__,
        caused_by=type(cause).__name__,
        turn=len(running.turns),
    )


async def close_quietly(env: Environment) -> Exception | None:
    """Close an environment, cancelled or not, and give what went wrong instead of raising it."""
    try:
        await asyncio.shield(env.close())
    except Exception as error:
        return error
    return None
