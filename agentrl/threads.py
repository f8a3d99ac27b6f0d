"""One thread for one blocking environment: a slow tool never holds up another episode."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")
Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class OwnThread:
    """Runs blocking functions one after another in a thread of its own, started at first use.

    A function that hangs cannot be killed in Python; `abandon` leaves it behind as a daemon thread that
    ends when
    the function does, and fails what waits for it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting: asyncio.Future[Any] | None = None

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run `function(*args)` there and give its result or exception."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        self._jobs.put((loop, self._waiting, lambda: function(*args)))
        result: Result = await self._waiting
        return result

    @property
    def busy(self) -> bool:
        """Whether a function runs there now."""
        return self._waiting is not None and not self._waiting.done()

    def stop(self) -> None:
        """Let the thread end after its current function."""
        self._jobs.put(None)

    def abandon(self, error: BaseException) -> None:
        """Fail what waits with `error` and leave the thread behind."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
        self.stop()

    async def join(self, seconds: float) -> bool:
        """Wait for the thread's end; False if it is still running then."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self._thread is not None and self._thread.is_alive():
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.002)
        return True

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, function = job
            try:
                value, error = function(), None
            except BaseException as caught:  # noqa: BLE001 - handed to the caller, whatever it is
                value, error = None, caught
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, future, value, error)


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if isinstance(error, StopIteration):  # a future refuses it
        error = RuntimeError(f"StopIteration: {error}")
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
