"""Plays one episode to its end; the one place where an exception becomes data."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from agentrl.episode import Episode, Failure
from agentrl.errors import ConfigError, DeadlineError, WorkCancelled
from agentrl.rollout.closing import close_quietly, is_cancelled
from agentrl.rollout.running import Running
from agentrl.task import Task

AfterTurn = Callable[[Running], Awaitable[None]]


async def nothing(running: Running) -> None:
    """Let the next turn come."""


async def attempt(running: Running, *, after_turn: AfterTurn = nothing) -> Episode:
    """Play an episode that has not started, or a fork, to its end and close its environment.

    Args:
        running: The episode.
        after_turn: Called after each turn, its observation written; a strategy may fork the episode there.

    Raises:
        ConfigError: The caller's mistake, such as a prompt that is longer than the context.
        CancelledError: After the environment was closed.
    """
    failure: Failure | None = None
    try:
        await play(running, after_turn)
    except ConfigError:
        await close_quietly(running.env)
        raise
    except asyncio.CancelledError as error:
        if is_cancelled():
            await close_quietly(running.env)
            raise
        lost = WorkCancelled(f"{running.place} was cancelled from inside")
        lost.__cause__ = error
        failure = Failure.of(lost, turn=len(running.turns))
    except Exception as error:
        failure = Failure.of(error, turn=len(running.turns))
    closing = await close_quietly(running.env)
    if failure is None and closing is not None:
        failure = Failure.of(closing, turn=len(running.turns))
    return running.episode(failure)


async def play(running: Running, after_turn: AfterTurn) -> None:
    """Take turns until the episode is finished.

    Raises:
        DeadlineError: It ran longer than an episode may.
    """
    limits, table = running.table.limits, running.table
    with table.watchdog.watch(lambda: running.place, limits.episode_seconds) as timer:
        try:
            async with timer:
                if not running.contexts:
                    await running.start()
                while running.finish is None:
                    await running.step()
                    await after_turn(running)
        except TimeoutError as error:
            if not timer.expired():
                raise
            seconds = f"{limits.episode_seconds:g} s"
            raise DeadlineError(f"{running.place}: the episode ran longer than {seconds}") from error


async def attempt_again(
    begin: Callable[[], Running],
    retries: int,
    *,
    task: Task,
    id: str,
    group_id: str,
    after_turn: AfterTurn = nothing,
) -> Episode:
    """Attempt an episode up to `retries` times more while it fails; each attempt has the same seed."""
    failed: list[Failure] = []
    while True:
        try:
            running = begin()
        except ConfigError:
            raise
        except Exception as error:
            episode = not_started(error, id=id, task=task, group_id=group_id)
        else:
            episode = await attempt(running, after_turn=after_turn)
        if episode.failure is None or len(failed) == retries:
            return replace(episode, retried=tuple(failed))
        failed.append(episode.failure)


def not_started(error: BaseException, *, id: str, task: Task, group_id: str, isolation: str = "") -> Episode:
    """Give the failed episode of a task whose environment could not be made or started."""
    return Episode(
        id=id,
        task_id=task.id,
        group_id=group_id,
        finish="failed",
        contexts=(),
        failure=Failure.of(error, turn=0),
        isolation=isolation,
    )
