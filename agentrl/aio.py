"""The library's own event loop, for callers that are not asynchronous themselves."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


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
