"""Stops asynchronous work in good order when the process is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_stoppable(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end like `asyncio.run`; on SIGTERM cancel first, let everything close, then take the signal.

    A signal handler that raises in the middle of an event loop leaves tasks behind that were never awaited.
    Inside a running loop, as a notebook's cell is, that loop stands still until the work is done.

    >>> async def two() -> int: return 2
    >>> run_stoppable(two())
    2
    """
    if _inside_a_loop():
        return _run_beside(work)
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


def _inside_a_loop() -> bool:
    """Whether an event loop runs in this thread, so that no other can."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_beside(work: Coroutine[Any, Any, Result]) -> Result:
    """Run in a thread of its own while this one waits; a signal cancels first and lets everything close."""
    begun = Future[Callable[[], object]]()

    async def main() -> Result:
        task = asyncio.current_task()
        assert task is not None
        begun.set_result(partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel))
        return await work

    with _interruptible(), ThreadPoolExecutor(1) as pool:  # whose end waits
        done = pool.submit(asyncio.run, main())
        try:
            return done.result()
        except KeyboardInterrupt:
            with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                begun.result()()
            raise


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let signals raise KeyboardInterrupt here: the loop of this thread, which waits, would not hear them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stopped: list[int] = []

    def interrupt(number: int, _: object) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    heard = [number for number, handler in before.items() if handler not in (None, signal.SIG_IGN)]
    for number in heard:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
        if signal.SIGTERM in stopped:
            signal.raise_signal(signal.SIGTERM)
