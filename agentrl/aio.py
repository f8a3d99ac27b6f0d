"""The library's own event loop, for callers that are not asynchronous themselves."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from agentrl.left_behind import LEFT_BEHIND

Result = TypeVar("Result")
SLICE_SECONDS = 0.25
"""What a frozen interpreter can take of a deadline that does not count its time."""
GRACE_SECONDS = 1.0
"""Work that was cancelled has so long to clean up before it is left behind."""


@functools.cache
def library_loop() -> asyncio.AbstractEventLoop:
    """Give the loop that runs in one daemon thread for the life of the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="agentrl-loop", daemon=True).start()
    return loop


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on the library's loop and wait for it, from any other thread.

    >>> async def two() -> int: return 2
    >>> run(two())
    2
    """
    return asyncio.run_coroutine_threadsafe(coroutine, library_loop()).result()


def drive(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that never really waits, here and now, without any loop.

    Raises:
        RuntimeError: It waited for something after all.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    coroutine.close()
    raise RuntimeError("a blocking environment awaited something: make its tool `async def`")


def finish(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end on a loop of its own; this thread may have one, and waits.

    >>> async def two() -> int: return 2
    >>> finish(two())
    2
    """
    result: Future[Result] = Future()

    def work() -> None:
        try:
            result.set_result(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
            result.set_exception(error)

    threading.Thread(target=work, name="agentrl-finish", daemon=True).start()
    return result.result()


async def bounded(awaitable: Awaitable[Result], timer: asyncio.Timeout) -> Result:
    """Wait until `timer` expires, also for work that does not end when it is cancelled.

    >>> async def two() -> int: return 2
    >>> asyncio.run(bounded(two(), asyncio.Timeout(None)))
    2

    Raises:
        TimeoutError: It did expire; the work was cancelled.
    """
    async with started(awaitable) as task, timer:
        return await asyncio.shield(task)


async def bounded_by(awaitable: Awaitable[Result], seconds: float) -> Result:
    """Wait for so long, not counting time in which this loop did not run: a call may hold the interpreter.

    >>> async def two() -> int: return 2
    >>> asyncio.run(bounded_by(two(), 1.0))
    2

    Raises:
        TimeoutError: It took longer; the work was cancelled.
    """
    async with started(awaitable) as task:
        for _ in range(max(1, round(seconds / SLICE_SECONDS))):
            done, _ = await asyncio.wait({task}, timeout=SLICE_SECONDS)
            if done:
                return task.result()
        raise TimeoutError


@contextlib.asynccontextmanager
async def started(awaitable: Awaitable[Result]) -> AsyncIterator[asyncio.Future[Result]]:
    """Start work that ends with this context, also if it does not want to."""
    task = asyncio.ensure_future(awaitable)
    try:
        yield task
    finally:
        if not task.done():
            task.add_done_callback(_look)
            await _end(task, awaitable)


async def _end(task: asyncio.Future[Any], awaitable: Awaitable[Any]) -> None:
    """Cancel; close a coroutine that swallows that; leave behind what swallows both."""
    task.cancel()
    await asyncio.wait({task}, timeout=GRACE_SECONDS)
    if not task.done() and inspect.iscoroutine(awaitable):
        with contextlib.suppress(RuntimeError, ValueError):  # it ignores that too, or runs just now
            awaitable.close()
        task.cancel()
        await asyncio.wait({task}, timeout=GRACE_SECONDS)
    if not task.done():
        LEFT_BEHIND.add(getattr(awaitable, "__qualname__", "a task"), lambda: not task.done())


def _look(task: asyncio.Future[Any]) -> None:
    """Take note of an exception that nobody waits for, so that none is reported as forgotten."""
    if not task.cancelled():
        task.exception()
