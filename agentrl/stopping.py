"""Stops asynchronous work in good order when the process is told to end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_stoppable(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end like `asyncio.run`; on SIGTERM cancel first, let everything close, then take the signal.

    A signal handler that raises in the middle of an event loop leaves tasks behind that were never awaited.

    >>> async def two() -> int: return 2
    >>> run_stoppable(two())
    2
    """
    if threading.current_thread() is not threading.main_thread():
        return asyncio.run(work)
    before = signal.getsignal(signal.SIGTERM)
    stopped: list[int] = []

    async def main() -> Result:
        task = asyncio.current_task()
        assert task is not None

        def stop() -> None:
            if not stopped:
                stopped.append(signal.SIGTERM)
                task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        return await work

    try:
        return asyncio.run(main())
    finally:
        signal.signal(signal.SIGTERM, before)
        if stopped:
            signal.raise_signal(signal.SIGTERM)
